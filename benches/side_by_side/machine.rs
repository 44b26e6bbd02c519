//! What the system says: processor time and memory of processes, which CPUs there are, and the
//! bounds of socket buffers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use crate::Result;

/// All processes of one proxy.
#[derive(Clone, Debug)]
pub(crate) struct Processes(Vec<u32>);

/// Nanoseconds that each thread has run so far.
pub(crate) struct RunTime {
    threads: BTreeMap<u32, u64>,
    /// The same by process in clock ticks, ended threads included.
    ticks: u64,
}

/// KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) rss: u64,
    pub(crate) pss: u64,
}

impl Processes {
    /// A process and all below it.
    pub(crate) fn below(root: u32) -> Result<Self> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // It may have ended since.
            if let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) {
                parents.push((process, field(&stat, PARENT)?));
            }
        }
        let mut found = BTreeSet::from([root]);
        loop {
            let known = found.len();
            let children = parents.iter().filter(|(_, parent)| {
                u32::try_from(*parent).is_ok_and(|parent| found.contains(&parent))
            });
            let children: Vec<u32> = children.map(|(process, _)| *process).collect();
            found.extend(children);
            if found.len() == known {
                return Ok(Self(found.into_iter().collect()));
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn run_time(&self) -> Result<RunTime> {
        let mut time = RunTime { threads: BTreeMap::new(), ticks: 0 };
        for process in &self.0 {
            let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
            time.ticks += field(&stat, USER_TIME)? + field(&stat, SYSTEM_TIME)?;
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let thread = thread?;
                let Ok(schedstat) = fs::read_to_string(thread.path().join("schedstat")) else {
                    continue;
                };
                let ran = schedstat.split(' ').next().ok_or("schedstat is empty")?.parse()?;
                let id = thread.file_name().to_str().ok_or("a thread without a number")?.parse()?;
                time.threads.insert(id, ran);
            }
        }
        Ok(time)
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        let mut memory = Memory::default();
        for process in &self.0 {
            let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
            memory.rss += kib(&rollup, "Rss:")?;
            memory.pss += kib(&rollup, "Pss:")?;
        }
        Ok(memory)
    }
}

impl RunTime {
    /// Nanoseconds since `before`: exact, unless a thread ended between, which leaves ticks.
    pub(crate) fn since(&self, before: &Self) -> u64 {
        if before.threads.keys().any(|thread| !self.threads.contains_key(thread)) {
            return (self.ticks - before.ticks) * TICK_NANOS;
        }
        let ran = |(thread, ran): (&u32, &u64)| ran - before.threads.get(thread).unwrap_or(&0);
        self.threads.iter().map(ran).sum()
    }
}

/// The CPUs that this process may use.
pub(crate) fn cpus() -> Result<Vec<u32>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let mut cpus = Vec::new();
    for range in list.ok_or("no list of CPUs")?.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<u32>()?..=last.parse()?);
    }
    Ok(cpus)
}

/// Cores, processor and kernel in a line.
pub(crate) fn described() -> Result<String> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown processor");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("{} × {model}, Linux {}", cpus()?.len(), kernel.trim()))
}

/// Bounds on the socket buffers of the whole machine; as they were when dropped.
pub(crate) struct SocketBuffers {
    before: Vec<(&'static str, String)>,
}

impl SocketBuffers {
    /// Kernels grow the buffers of a busy connection to megabytes, and with the luck of how far
    /// they grew, bulk figures jump from run to run.
    pub(crate) fn bound() -> io::Result<Self> {
        let mut bounded = Self { before: Vec::new() };
        for (path, bounds) in [(RECEIVE, "4096 131072 524288"), (SEND, "4096 16384 262144")] {
            let before = fs::read_to_string(path)?;
            fs::write(path, bounds)?;
            bounded.before.push((path, before));
        }
        Ok(bounded)
    }
}

impl Drop for SocketBuffers {
    fn drop(&mut self) {
        for (path, before) in &self.before {
            if let Err(error) = fs::write(path, before) {
                eprintln!("side_by_side: {path} should be {}: {error}", before.trim());
            }
        }
    }
}

/// A field of `/proc/PID/stat`, numbered as proc(5) does; the name before may hold anything.
fn field(stat: &str, number: usize) -> Result<u64> {
    let (_, rest) = stat.rsplit_once(") ").ok_or("stat without a name")?;
    Ok(rest.split(' ').nth(number - 3).ok_or("stat is short")?.parse()?)
}

fn kib(rollup: &str, name: &str) -> Result<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.ok_or("smaps_rollup is short")?.trim().trim_end_matches(" kB").parse()?)
}

const RECEIVE: &str = "/proc/sys/net/ipv4/tcp_rmem";
const SEND: &str = "/proc/sys/net/ipv4/tcp_wmem";

const PARENT: usize = 4;
const USER_TIME: usize = 14;
const SYSTEM_TIME: usize = 15;

/// Linux shows 100 ticks a second to processes, whatever it counts in itself.
const TICK_NANOS: u64 = 10_000_000;
