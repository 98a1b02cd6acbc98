//! What the kernel says about this process, from `/proc/self`.

use super::family::Unit;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry;
use std::{fmt, fs};

/// Clock ticks a second in `/proc/self/stat`: `USER_HZ`, 100 on every
/// architecture this builds for.
const TICKS_PER_SECOND: f64 = 100.0;

/// What could be read; what could not is `None` and is not shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    /// Memory in RAM, in bytes.
    pub(crate) resident_bytes: Option<u64>,
    /// The part of it that is no file, in bytes.
    pub(crate) anonymous_bytes: Option<u64>,
    /// Time on a processor since the start, user and system.
    pub(crate) cpu_seconds: Option<f64>,
    /// Threads.
    pub(crate) threads: Option<u64>,
    /// Descriptors in the main thread's table.
    pub(crate) open_fds: Option<u64>,
    /// Descriptors that table may hold.
    pub(crate) max_fds: Option<u64>,
}

/// What a process costs at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Memory in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Time on a processor since the start, user and system.
    pub cpu_seconds: Option<f64>,
}

impl Process {
    /// Reads the two values that are looked at often, and no more than they need.
    pub(super) fn usage() -> Usage {
        let read = |name| fs::read_to_string(name).unwrap_or_default();
        Usage {
            resident_bytes: first_number(&read("/proc/self/status"), "VmRSS:").map(|kib| kib * 1024),
            cpu_seconds: cpu_seconds(&read("/proc/self/stat")),
        }
    }

    /// Reads the values of now.
    pub(crate) fn read() -> Self {
        let read = |name| fs::read_to_string(name).unwrap_or_default();
        let (status, limits) = (read("/proc/self/status"), read("/proc/self/limits"));
        Process {
            resident_bytes: first_number(&status, "VmRSS:").map(|kib| kib * 1024),
            anonymous_bytes: first_number(&status, "RssAnon:").map(|kib| kib * 1024),
            cpu_seconds: cpu_seconds(&read("/proc/self/stat")),
            threads: first_number(&status, "Threads:"),
            open_fds: open_fds(),
            max_fds: first_number(&limits, "Max open files"),
        }
    }

    /// Under the names that Prometheus clients share, without our prefix.
    /// `started_at_seconds`: since 1970.
    pub(crate) fn encode(&self, out: &mut DescriptorEncoder<'_>, started_at_seconds: f64) -> fmt::Result {
        if let Some(seconds) = self.cpu_seconds {
            let (help, unit) = ("Time on a processor, user and system.", registry::Unit::Seconds);
            let metric = out.encode_descriptor("process_cpu", help, Some(&unit), MetricType::Counter)?;
            ConstCounter::new(seconds).encode(metric)?;
        }
        for (name, help, unit, value) in self.gauges(started_at_seconds) {
            let Some(value) = value else { continue };
            let unit = unit.of_openmetrics();
            let metric = out.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }

    fn gauges(&self, started_at_seconds: f64) -> [(&'static str, &'static str, Unit, Option<f64>); 6] {
        let (started, float) =
            (Some(started_at_seconds), |value: Option<u64>| value.map(|value| value as f64));
        let (resident, anonymous) = (float(self.resident_bytes), float(self.anonymous_bytes));
        let (open, max) = (float(self.open_fds), float(self.max_fds));
        [
            ("process_start_time", "When the process started, since 1970.", Unit::Seconds, started),
            ("process_resident_memory", "Memory in RAM.", Unit::Bytes, resident),
            ("process_anonymous_memory", "Memory in RAM that is no file.", Unit::Bytes, anonymous),
            ("process_threads", "Threads.", Unit::Count, float(self.threads)),
            ("process_open_fds", "Descriptors in the main thread's table.", Unit::Count, open),
            ("process_max_fds", "Descriptors that table may hold.", Unit::Count, max),
        ]
    }
}

/// The directory's size is the number of descriptors since Linux 6.2; before
/// that it is 0 and they have to be counted.
fn open_fds() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        size => Some(size),
    }
}

/// The number that follows `name` at the beginning of a line.
fn first_number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// `utime` and `stime`, the 14th and 15th field. The second is the program's
/// name in parentheses, which may hold blanks and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read() {
        let process = Process::read();
        assert!(process.resident_bytes >= process.anonymous_bytes && process.anonymous_bytes > Some(0));
        assert!(process.threads >= Some(1));
        assert!(process.open_fds >= Some(3) && process.max_fds >= process.open_fds);
        assert!(process.cpu_seconds.is_some());
    }

    #[test]
    fn files_of_the_kernel_are_understood() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
        assert_eq!(cpu_seconds(""), None);
        let status = "Name:\tVmRSS:\nVmRSS:\t   12 kB\nRssAnon:\n";
        assert_eq!(first_number(status, "VmRSS:"), Some(12));
        assert_eq!(first_number(status, "RssAnon:"), None);
        assert_eq!(first_number(status, "Threads:"), None);
    }
}
