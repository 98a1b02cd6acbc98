//! What a process and its children have used, from /proc. Never guesses: what cannot be read is an error.

use serde::Serialize;
use std::fs;

/// Generations of processes that are looked through for children.
const GENERATIONS_MAX: u32 = 8;

/// CPU time and memory of a process at one moment, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Usage {
    /// Seconds in user mode since the process started, all threads.
    pub(crate) user_seconds: f64,
    /// Seconds in the kernel since the process started, all threads.
    pub(crate) system_seconds: f64,
    /// Resident memory.
    pub(crate) rss_bytes: u64,
    /// The most resident memory the process ever had.
    pub(crate) rss_peak_bytes: u64,
}

impl Usage {
    /// Seconds of CPU since the process started.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }

    /// Reads what process `pid` and those it started that still run (such as the workers of nginx) have used up to
    /// now. Pages that several of them share count for each.
    pub(crate) fn of(pid: u32) -> Result<Usage, String> {
        let mut all = Usage::read(&format!("/proc/{pid}"))?;
        for child in descendants(pid, GENERATIONS_MAX) {
            // One that has just ended is not there any more.
            if let Ok(usage) = Usage::read(&format!("/proc/{child}")) {
                all.user_seconds += usage.user_seconds;
                all.system_seconds += usage.system_seconds;
                all.rss_bytes += usage.rss_bytes;
                all.rss_peak_bytes += usage.rss_peak_bytes;
            }
        }
        Ok(all)
    }

    /// Reads what this process has used up to now.
    pub(crate) fn own() -> Result<Usage, String> {
        Usage::read("/proc/self")
    }

    fn read(directory: &str) -> Result<Usage, String> {
        let file = |name| {
            let path = format!("{directory}/{name}");
            fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
        };
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        parse(&file("stat")?, &file("status")?, ticks_per_second)
            .ok_or_else(|| format!("{directory}: stat or status is not as expected"))
    }
}

/// Processes started by `pid`, by those, and so on.
fn descendants(pid: u32, generations: u32) -> Vec<u32> {
    let Some(below) = generations.checked_sub(1) else { return Vec::new() };
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<u32> = lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect();
    children.iter().flat_map(|child| std::iter::once(*child).chain(descendants(*child, below))).collect()
}

/// Takes the figures from the text of `stat` and `status`. The process name stands in parentheses in `stat` and may
/// hold anything, parentheses and spaces too.
fn parse(stat: &str, status: &str, ticks_per_second: f64) -> Option<Usage> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / ticks_per_second);
    let (user_seconds, system_seconds) = (seconds()?, seconds()?);
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some(Usage {
        user_seconds,
        system_seconds,
        rss_bytes: kib("VmRSS:")? * 1024,
        rss_peak_bytes: kib("VmHWM:")? * 1024,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_behind_any_process_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 100 0 0";
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let usage = parse(stat, status, 100.0).unwrap();
        assert_eq!((usage.user_seconds, usage.system_seconds), (2.5, 0.5));
        assert_eq!((usage.rss_bytes, usage.rss_peak_bytes), (1 << 20, 2 << 20));
        assert_eq!(parse("7 x", status, 100.0), None);
        assert_eq!(parse(stat, "Name: x", 100.0), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(Usage::own().unwrap().rss_bytes > 0);
    }

    #[test]
    fn children_count() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let own = std::process::id();
        let found = descendants(own, 1).contains(&child.id());
        let (alone, together) = (Usage::own().unwrap(), Usage::of(own).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found && descendants(own, 0).is_empty());
        assert!(together.rss_bytes > alone.rss_bytes, "{together:?}");
    }
}
