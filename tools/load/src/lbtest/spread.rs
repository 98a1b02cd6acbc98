//! Whether connections are spread over instances. Pure: counts in, a verdict out.

/// The normal deviate that only one in a hundred exceeds.
const ONE_IN_A_HUNDRED: f64 = 2.326;

/// What the counts of connections per instance say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) spread: bool,
    /// In a sentence, without its full stop.
    pub(crate) why: String,
}

/// What is asked of the counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// Instances that must answer; `None`: any two.
    pub(crate) instances: Option<u32>,
    /// Part of its fair share that the least used instance must have.
    pub(crate) min_share: f64,
}

impl Demand {
    /// Judges how many connections each instance got and how many failed.
    pub(crate) fn judge(self, counts: &[u64], failed: u64) -> Verdict {
        let (seen, needed) = (counts.len() as u32, self.instances.unwrap_or(2));
        let verdict = |spread: bool, why: String| Verdict { spread, why };
        if failed > 0 {
            return verdict(false, format!("{failed} connections failed"));
        }
        if seen < needed {
            let who = if seen == 1 { "one instance".to_owned() } else { format!("{seen} instances") };
            let wanted =
                self.instances.map_or("nothing was spread".to_owned(), |n| format!("{n} should have"));
            return verdict(false, format!("{who} answered, {wanted}"));
        }
        let fair = counts.iter().sum::<u64>() as f64 / f64::from(seen.max(1));
        let least = counts.iter().min().copied().unwrap_or_default() as f64 / fair;
        let most = counts.iter().max().copied().unwrap_or_default() as f64 / fair;
        let range = format!("from {:.0} % to {:.0} % of the fair share", 100.0 * least, 100.0 * most);
        if least >= self.min_share {
            verdict(true, format!("{seen} instances have {range}"))
        } else if is_chance(counts) {
            verdict(true, format!("{seen} instances have {range}, no more uneven than chance makes it"))
        } else {
            let bound = 100.0 * self.min_share;
            verdict(false, format!("{seen} instances have {range}, at least {bound:.0} % is asked for"))
        }
    }
}

/// Whether an even draw would give counts as uneven as these in more than one of a hundred cases: Pearson's
/// chi-square, brought to a normal deviate by the cube root of Wilson and Hilferty.
fn is_chance(counts: &[u64]) -> bool {
    let fair = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    let chi_square: f64 = counts.iter().map(|&count| (count as f64 - fair).powi(2) / fair).sum();
    let freedom = counts.len() as f64 - 1.0;
    if freedom < 1.0 {
        return true;
    }
    let spread = 2.0 / (9.0 * freedom);
    let deviate = ((chi_square / freedom).cbrt() - (1.0 - spread)) / spread.sqrt();
    deviate < ONE_IN_A_HUNDRED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let check = |counts: &[u64], failed: u64, instances: Option<u32>, spread: bool, why: &str| {
            let verdict = Demand { instances, min_share: 0.5 }.judge(counts, failed);
            assert!(verdict.spread == spread && verdict.why.contains(why), "{counts:?}: {verdict:?}");
        };
        check(&[34, 33, 33], 0, None, true, "3 instances have from 99 % to 102 %");
        check(&[34, 33, 33], 1, None, false, "1 connections failed");
        check(&[100], 0, None, false, "one instance answered, nothing was spread");
        check(&[], 0, None, false, "0 instances");
        check(&[100], 0, Some(1), true, "1 instances");
        check(&[50, 50], 0, Some(3), false, "2 instances answered, 3 should have");
        check(&[90, 10], 0, None, false, "at least 50 %");
        check(&[60, 30], 0, None, true, "from 67 %");
        // Five thrown at random over two: one and four is nothing special.
        check(&[4, 1], 0, None, true, "no more uneven than chance");
        check(&[40, 10], 0, None, false, "at least 50 %");
    }

    #[test]
    fn chance_is_what_tables_of_chi_square_say() {
        // Chi-square at 1 %: 6.63 with one degree of freedom, 9.21 with two, 21.67 with nine.
        let check = |counts: &[u64], chance: bool| assert_eq!(is_chance(counts), chance, "{counts:?}");
        check(&[5_000 + 128, 5_000 - 128], true);
        check(&[5_000 + 131, 5_000 - 131], false);
        check(&[1_000 + 66, 1_000 - 66, 1_000], true);
        check(&[1_000 + 70, 1_000 - 70, 1_000], false);
        let nine = |off: u64| [100 + off, 100 - off, 100, 100, 100, 100, 100, 100, 100, 100];
        check(&nine(32), true);
        check(&nine(34), false);
    }
}
