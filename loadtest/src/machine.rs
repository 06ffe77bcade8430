//! What Linux says about processes and the machine.
#![expect(clippy::disallowed_methods, reason = "the answers are files in /proc")]

use std::collections::HashMap;
use std::fs;
use std::num::NonZero;

use crate::outcome::Machine;

/// A station's process, with its children if these do its work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server {
    pub(crate) pid: u32,
    pub(crate) tree: bool,
}

/// What processes have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time.
    pub(crate) cpu_us: u64,
    pub(crate) rss_kib: u64,
}

/// Parent and CPU ticks from the text of `/proc/PID/stat`.
fn stat(text: &str) -> Option<(u32, u64)> {
    // The name before the last parenthesis may hold anything.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let user: u64 = fields.nth(9)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((parent, user + system))
}

/// Ticks in which some core worked, from the text of `/proc/stat`.
fn busy(text: &str) -> Option<u64> {
    let mut fields = text.lines().next()?.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let mut next = || fields.next()?.ok();
    let (user, nice, system) = (next()?, next()?, next()?);
    let (_idle, _wait, interrupts, soft) = (next()?, next()?, next()?, next()?);
    Some(user + nice + system + interrupts + soft)
}

fn microseconds(ticks: u64) -> u64 {
    ticks * 1_000_000 / rustix::param::clock_ticks_per_second().max(1)
}

fn of(pid: &str) -> Option<(u32, Usage)> {
    let (parent, ticks) = stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let memory = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = memory.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let rss_kib = pages * rustix::param::page_size() as u64 / 1024;
    Some((parent, Usage { cpu_us: microseconds(ticks), rss_kib }))
}

impl Server {
    /// None if the process is gone.
    pub(crate) fn usage(self) -> Option<Usage> {
        let (_, mut sum) = of(&self.pid.to_string())?;
        if !self.tree {
            return Some(sum);
        }
        let mut all = HashMap::new();
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| Some((name, name.parse::<u32>().ok()?)));
            if let Some((name, pid)) = pid
                && let Some(found) = of(name)
            {
                all.insert(pid, found);
            }
        }
        for (pid, (_, usage)) in &all {
            if *pid != self.pid && descends(&all, *pid, self.pid) {
                sum.cpu_us += usage.cpu_us;
                sum.rss_kib += usage.rss_kib;
            }
        }
        Some(sum)
    }
}

fn descends(all: &HashMap<u32, (u32, Usage)>, mut pid: u32, from: u32) -> bool {
    // Bounded, since processes come and go while they are listed.
    for _ in 0..all.len() {
        match all.get(&pid) {
            Some((parent, _)) if *parent == from => return true,
            Some((parent, _)) => pid = *parent,
            None => return false,
        }
    }
    false
}

/// CPU of this process, in microseconds.
pub(crate) fn own_cpu_us() -> u64 {
    of("self").map_or(0, |(_, usage)| usage.cpu_us)
}

/// CPU of the whole machine, in microseconds of one core.
pub(crate) fn busy_us() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    busy(&text).map_or(0, microseconds)
}

/// Where this runs.
pub(crate) fn describe() -> Machine {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        model: model.map(|(_, name)| name.trim().to_owned()).unwrap_or_default(),
        cores: std::thread::available_parallelism().map_or(1, NonZero::get),
        kernel: kernel.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let text = "42 (a ) b) S 7 1 1 0 -1 4194304 9 8 7 6 150 50 1 2 20 0 1 0 99 1 2";
        assert_eq!(stat(text), Some((7, 200)));
        assert_eq!(stat("42 (short) S 7"), None);
        assert_eq!(busy("cpu  10 1 20 500 7 3 4 0 0 0\ncpu0 1"), Some(38));
    }

    #[test]
    fn a_process_counts_with_its_descendants_only() {
        let of = |parent| (parent, Usage::default());
        let all = HashMap::from([(2, of(1)), (3, of(2)), (4, of(3)), (5, of(1)), (6, of(6))]);
        assert!(descends(&all, 4, 2) && descends(&all, 3, 2));
        assert!(!descends(&all, 5, 2) && !descends(&all, 6, 2) && !descends(&all, 9, 2));
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Server { pid: std::process::id(), tree: true }.usage().unwrap();
        assert!(usage.rss_kib > 100);
        assert!(Server { pid: u32::MAX, tree: false }.usage().is_none());
        assert!(busy_us() > 0 && describe().cores > 0);
    }
}
