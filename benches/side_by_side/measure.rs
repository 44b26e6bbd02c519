//! The run: round by round, row by row, one proxy after the other, each in a fresh process.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::sleep;

use crate::Result;
use crate::machine::{self, SocketBuffers};
use crate::options::{Options, Row};
use crate::process::{BACKEND, Ground, Helper, LOAD, Proxy};
use crate::report::{Line, Report};
use crate::targets::{self, Key, Target};

/// Measures everything asked for.
pub(crate) async fn all(options: &Options) -> Result<Report> {
    let (rows, targets) = (options.rows(), options.targets());
    let cpus = machine::cpus()?;
    let proxy_cpu = *cpus.first().ok_or("no CPU")?;
    let load_cpu = *cpus.get(1).unwrap_or(&proxy_cpu);
    let backend_cpu = *cpus.get(2).unwrap_or(&load_cpu);
    let files = raise_files(options, &rows)?;

    let dir = tempfile::Builder::new().prefix("side_by_side-").tempdir()?;
    // nginx's worker is another user.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let roots = [Key::Ecdsa, Key::Rsa].map(|key| targets::write_pair(dir.path(), key));
    let roots = roots.into_iter().collect::<Result<Vec<_>>>()?.concat();
    let roots_path = dir.path().join("roots.pem");
    std::fs::write(&roots_path, roots)?;

    let mut report = Report::new(options, &targets);
    report.note(machine::described()?);
    for target in targets.iter().filter(|target| !target.has_large_buffers()) {
        report.note(format!("{}: {}", target.title(), target.version(options)?));
    }
    report.note(format!("CPUs: proxies {proxy_cpu}, generator {load_cpu}, backend {backend_cpu}"));
    let bounded = SocketBuffers::bound();
    report.note(match &bounded {
        Ok(_) => "socket buffers bounded: tcp_rmem 512 KiB, tcp_wmem 256 KiB".to_owned(),
        Err(error) => format!("socket buffers NOT bounded ({error}): bulk and 16 KiB will jump"),
    });

    let mut backend = Helper::start(BACKEND, backend_cpu, &[])?;
    let address = backend.line().await?.parse()?;
    let mut load = Helper::start(LOAD, load_cpu, &[&roots_path])?;
    let ground = Ground { options, dir: dir.path(), backend: address, cpu: proxy_cpu, files };
    for round in 0..options.rounds {
        for row in &rows {
            let mut order = targets.clone();
            order.rotate_left(round as usize % targets.len().max(1));
            order.retain(|target| row.depends_on_buffers() || !target.has_large_buffers());
            for target in order {
                let key = if *row == Row::Rsa { Key::Rsa } else { Key::Ecdsa };
                let proxy = Proxy::start(&ground, target, key).await?;
                let suspicious = round == 0 && *row == rows[0];
                let measured = measure(options, *row, target, &proxy, &mut load, suspicious).await;
                let figures = measured.map_err(|error| {
                    format!("{row:?} through {}: {error}\n{}", target.title(), proxy.said())
                })?;
                for (line, value) in figures {
                    eprintln!("{}/{} {line:?} {target:?} {value:.3}", round + 1, options.rounds);
                    report.add(line, target, value);
                }
                proxy.stop().await?;
            }
        }
    }
    Ok(report)
}

/// One row of one proxy. If `suspicious`, proves first that altered bytes would be noticed.
async fn measure(
    options: &Options,
    row: Row,
    target: Target,
    proxy: &Proxy,
    load: &mut Helper,
    suspicious: bool,
) -> Result<Vec<(Line, f64)>> {
    load.order(&format!("target {}", proxy.listen)).await?;
    if suspicious {
        load.order("distrust").await?;
    }
    let bulk_frames = options.bulk_mib * FRAMES_PER_MIB / BULK_SOCKETS;
    let warm_frames = WARM_MIB * FRAMES_PER_MIB / BULK_SOCKETS;
    let bulk = |order: &str, frames: u64| format!("{order} {BULK_SOCKETS} {frames}");
    let timed = |order: &str, millis: u64| format!("{order} {millis}");
    let millis = options.millis;
    let figures = match row {
        Row::Idle => return idle(options, target, proxy, load).await,
        Row::Latency => return latency(options, proxy, load).await,
        Row::Echo | Row::Echo16k => {
            let (line, payload) = match row {
                Row::Echo => (Line::Echo, 125),
                _ => (Line::Echo16k, 16 * 1024),
            };
            load.order(&format!("open {} {payload}", options.sockets)).await?;
            (line, echo(proxy, load, millis).await? / 1e3)
        }
        Row::Upload | Row::Download => {
            let (line, order) = match row {
                Row::Upload => (Line::Upload, "upload"),
                _ => (Line::Download, "download"),
            };
            load.order(&bulk(order, warm_frames)).await?;
            (line, spent(proxy, load, &bulk(order, bulk_frames)).await?)
        }
        Row::Full | Row::Resumed | Row::Rsa => {
            let (line, order) = match row {
                Row::Full => (Line::Full, "full"),
                Row::Resumed => (Line::Resumed, "resumed"),
                _ => (Line::Rsa, "full"),
            };
            load.order(&timed(order, WARM_MILLIS)).await?;
            (line, spent(proxy, load, &timed(order, millis)).await? / 1e3)
        }
    };
    load.order("close").await?;
    Ok(vec![figures])
}

/// What an idle socket takes, what it costs others, and what is left of it afterwards.
async fn idle(
    options: &Options,
    target: Target,
    proxy: &Proxy,
    load: &mut Helper,
) -> Result<Vec<(Line, f64)>> {
    let sockets = options.idle_sockets();
    let start = proxy.processes.memory()?;
    load.order(&format!("idle {sockets}")).await?;
    sleep(SETTLING).await;
    let full = proxy.processes.memory()?;
    let growth = full.pss.saturating_sub(start.pss) as f64 / sockets as f64;
    let mut figures = vec![(Line::Idle, growth)];
    if target.has_large_buffers() {
        load.order("close").await?;
        return Ok(figures);
    }
    figures.push((Line::Start, start.rss as f64 / 1024.0));
    load.order(&format!("open {} 125", options.sockets)).await?;
    let beside_idle = echo(proxy, load, options.millis).await?;
    load.order("close").await?;
    sleep(Duration::from_secs(options.after_closing_secs())).await;
    let left = proxy.processes.memory()?;
    figures.push((Line::AfterClosing, 100.0 * left.pss as f64 / full.pss as f64));
    load.order(&format!("open {} 125", options.sockets)).await?;
    let alone = echo(proxy, load, options.millis).await?;
    load.order("close").await?;
    figures.push((Line::BesideIdle, beside_idle / alone));
    Ok(figures)
}

async fn latency(options: &Options, proxy: &Proxy, load: &mut Helper) -> Result<Vec<(Line, f64)>> {
    load.order(&format!("open {} 125", options.sockets)).await?;
    let order = |millis: u64| format!("latency {} {millis}", options.rate);
    load.order(&order(WARM_MILLIS)).await?;
    let before = proxy.processes.run_time()?;
    let nanos = load.order(&order(LATENCY_FACTOR * options.millis)).await?;
    let messages = u64::from(options.rate) * LATENCY_FACTOR * options.millis / 1000;
    let ran = proxy.processes.run_time()?.since(&before);
    load.order("close").await?;
    let lines = [Line::P50, Line::P99, Line::P999, Line::Slowest];
    let percentiles = lines.into_iter().zip(nanos.into_iter().map(|nanos| nanos as f64 / 1e3));
    Ok(percentiles.chain([(Line::Paced, ran as f64 / messages as f64 / 1e3)]).collect())
}

/// Nanoseconds a message over the open sockets.
async fn echo(proxy: &Proxy, load: &mut Helper, millis: u64) -> Result<f64> {
    load.order(&format!("echo {WARM_MILLIS}")).await?;
    spent(proxy, load, &format!("echo {millis}")).await
}

/// The proxy's CPU time while an order is carried out, divided by what the order says was done.
async fn spent(proxy: &Proxy, load: &mut Helper, order: &str) -> Result<f64> {
    let before = proxy.processes.run_time()?;
    let done = load.order(order).await?;
    let ran = proxy.processes.run_time()?.since(&before);
    match done[..] {
        [done] if done > 0 && ran > 0 => Ok(ran as f64 / done as f64),
        _ => Err(format!("`{order}` did nothing").into()),
    }
}

/// As many open files as there may be; helpers and proxies inherit the limit.
fn raise_files(options: &Options, rows: &[Row]) -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let files = limit.maximum.unwrap_or(FILES_MOST).min(FILES_MOST);
    let needed = 2 * (options.idle_sockets() + options.sockets) as u64 + 300;
    if rows.contains(&Row::Idle) && files < needed {
        return Err(format!("{needed} open files are needed and {files} allowed").into());
    }
    Ok(files)
}

const WARM_MILLIS: u64 = 300;
const WARM_MIB: u64 = 32;
const BULK_SOCKETS: u64 = 4;
const FRAMES_PER_MIB: u64 = (1024 * 1024 / crate::frames::BULK_BYTES) as u64;

/// Tails need more messages than means.
const LATENCY_FACTOR: u64 = 3;

/// Between the last idle socket and the look at memory.
const SETTLING: Duration = Duration::from_secs(1);

/// nginx prepares its table for as many as it may have: no more than anybody needs here.
const FILES_MOST: u64 = 20_000;
