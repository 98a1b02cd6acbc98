//! What a process has used, from /proc. Never guesses: what cannot be read is an error.

use serde::Serialize;
use std::fs;

/// CPU time and memory of a process at one moment.
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

    /// Reads what process `pid` has used up to now.
    pub(crate) fn of(pid: u32) -> Result<Usage, String> {
        Usage::read(&format!("/proc/{pid}"))
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
}
