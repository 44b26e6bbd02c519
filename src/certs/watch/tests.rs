use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::certs::testing::{Dir, ecdsa, ecdsa_at, eventually, key_lines, rename_over, write_pair};

/// So slow that only events can be what a test sees.
const NEVER: Duration = Duration::from_secs(86_400);

/// A watched pair that serves `a.test`.
struct Watched {
    store: Arc<CertStore>,
    metrics: Arc<Metrics>,
    reload_now: Arc<Notify>,
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Watched {
    async fn start(files: PairFiles, poll: Duration) -> Self {
        let store = CertStore::load(vec![files]).unwrap();
        let (metrics, reload_now) = (Arc::new(Metrics::new()), Arc::new(Notify::new()));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(watch(
            Arc::clone(&store),
            poll,
            Arc::clone(&reload_now),
            Arc::clone(&metrics),
            async { drop(stopped.await) },
        ));
        let watched = Self { store, metrics, reload_now, task, stop };
        // The first pass sets the watches.
        watched.pass(true).await;
        watched
    }

    /// A watch whose system gives no watcher: only the poll sees.
    async fn blind(files: PairFiles, poll: Duration) -> Self {
        let store = CertStore::load(vec![files]).unwrap();
        let (metrics, reload_now) = (Arc::new(Metrics::new()), Arc::new(Notify::new()));
        let (stop, stopped) = oneshot::channel::<()>();
        let followed = follow(
            Arc::clone(&store),
            Eyes::shut(),
            Arc::new(Notify::new()),
            poll,
            Arc::clone(&reload_now),
            Arc::clone(&metrics),
        );
        let task = tokio::spawn(async move {
            tokio::select! { () = followed => {}, _ = stopped => {} }
        });
        let watched = Self { store, metrics, reload_now, task, stop };
        watched.pass(poll == NEVER).await;
        watched
    }

    /// Waits until a whole pass, asked for or by the poll, has begun and ended from here on.
    async fn pass(&self, ask: bool) {
        let gauge = &self.metrics.certificate_not_after;
        // Each pass ends by publishing the gauges. The first seen may end a pass that had begun.
        for _ in 0..2 {
            gauge.reset();
            if ask {
                self.reload_now.notify_one();
            }
            eventually("pass", || !collected(gauge).is_empty()).await;
        }
    }

    fn served(&self) -> String {
        self.store.summaries()[0].name().to_owned()
    }

    fn counts(&self) -> (u64, u64) {
        let count = |result| self.metrics.certificate_reloads.with_label_values(&[result]).get();
        (count("ok"), count("error"))
    }

    async fn serves(&self, name: &str) {
        eventually(name, || self.served() == name).await;
        eventually("gauge", || collected(&self.metrics.certificate_not_after) == [name]).await;
    }

    async fn refuses(&self, errors: u64) {
        eventually("refusal", || self.counts().1 >= errors).await;
        assert_eq!(self.counts().1, errors);
    }

    async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }
}

/// The names that a family has series for.
fn collected(gauge: &prometheus::GaugeVec) -> Vec<String> {
    use prometheus::core::Collector;
    let families = gauge.collect();
    let series = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
    series.map(|metric| metric.get_label()[0].value().to_owned()).collect()
}

#[tokio::test]
async fn an_in_place_rewrite_and_an_atomic_rename_are_served() {
    let dir = Dir::new();
    let files = dir.write("tls", &ecdsa(&["a.test"]));
    let watched = Watched::start(files.clone(), NEVER).await;

    dir.write("tls", &ecdsa(&["b.test"]));
    watched.serves("b.test").await;

    let (cert, key) = ecdsa(&["c.test"]);
    rename_over(&files.key, &key);
    rename_over(&files.cert, &cert);
    watched.serves("c.test").await;
    // And once more: the watch outlives the inode.
    let (cert, key) = ecdsa(&["d.test"]);
    rename_over(&files.key, &key);
    rename_over(&files.cert, &cert);
    watched.serves("d.test").await;
    watched.stop().await;
}

#[tokio::test]
async fn a_kubernetes_secret_is_served_at_each_swap() {
    let dir = Dir::new();
    let mount = dir.path().join("secret");
    let version = |name: &str, host: &str| {
        let data = mount.join(name);
        fs::create_dir_all(&data).unwrap();
        write_pair(&data, "tls", &ecdsa(&[host]));
        symlink(name, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    };
    version("..v1", "a.test");
    for file in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{file}"), mount.join(file)).unwrap();
    }
    let files = PairFiles { cert: mount.join("tls.crt"), key: mount.join("tls.key") };
    let watched = Watched::start(files, NEVER).await;
    for (n, host) in [(2, "b.test"), (3, "c.test"), (4, "d.test")] {
        version(&format!("..v{n}"), host);
        fs::remove_dir_all(mount.join(format!("..v{}", n - 1))).unwrap();
        watched.serves(host).await;
    }
    assert_eq!(watched.counts(), (3, 0), "both files change at once: no mismatch is seen");
    watched.stop().await;
}

#[tokio::test]
async fn certbot_links_are_followed_into_the_archive() {
    let dir = Dir::new();
    let (live, archive) = (dir.path().join("live/x"), dir.path().join("archive/x"));
    fs::create_dir_all(&live).unwrap();
    fs::create_dir_all(&archive).unwrap();
    let link = |n: u32, host: &str| {
        write_pair(&archive, &n.to_string(), &ecdsa(&[host]));
        for kind in ["key", "crt"] {
            let beside = live.join("beside");
            symlink(format!("../../archive/x/{n}.{kind}"), &beside).unwrap();
            fs::rename(beside, live.join(format!("tls.{kind}"))).unwrap();
        }
    };
    link(1, "a.test");
    let files = PairFiles { cert: live.join("tls.crt"), key: live.join("tls.key") };
    let watched = Watched::start(files, NEVER).await;
    link(2, "b.test");
    watched.serves("b.test").await;
    // The target itself is rewritten, in a directory that only the link leads to.
    write_pair(&archive, "2", &ecdsa(&["c.test"]));
    watched.serves("c.test").await;
    watched.stop().await;
}

#[tokio::test]
async fn a_link_to_a_directory_of_releases_is_served_at_each_swap() {
    let dir = Dir::new();
    let current = dir.path().join("current");
    let release = |name: &str, host: &str| {
        fs::create_dir(dir.path().join(name)).unwrap();
        write_pair(&dir.path().join(name), "tls", &ecdsa(&[host]));
        symlink(name, dir.path().join("next")).unwrap();
        fs::rename(dir.path().join("next"), &current).unwrap();
    };
    release("1", "a.test");
    let files = PairFiles { cert: current.join("tls.crt"), key: current.join("tls.key") };
    let watched = Watched::start(files, NEVER).await;
    release("2", "b.test");
    watched.serves("b.test").await;
    release("3", "c.test");
    watched.serves("c.test").await;
    watched.stop().await;
}

#[tokio::test]
async fn what_is_half_written_or_wrong_keeps_the_old_pair_until_it_is_right() {
    let dir = Dir::new();
    let files = dir.write("tls", &ecdsa(&["a.test"]));
    let watched = Watched::start(files.clone(), NEVER).await;
    let (cert, key) = ecdsa(&["b.test"]);
    let half = cert[..cert.len() / 2].to_owned();
    let mut errors = 0;
    for bad in [half, cert.clone(), String::new(), "garbage".to_owned()] {
        rename_over(&files.cert, &bad);
        errors += 1;
        watched.refuses(errors).await;
    }
    fs::remove_file(&files.cert).unwrap();
    watched.refuses(errors + 1).await;
    fs::create_dir(&files.cert).unwrap();
    watched.refuses(errors + 2).await;
    fs::remove_dir(&files.cert).unwrap();
    symlink("nowhere", &files.cert).unwrap();
    watched.refuses(errors + 3).await;
    assert_eq!((watched.served().as_str(), watched.counts().0), ("a.test", 0));

    rename_over(&files.key, &key);
    rename_over(&files.cert, &cert);
    watched.serves("b.test").await;
    assert_eq!(watched.counts().0, 1);
    watched.stop().await;
}

#[tokio::test]
async fn a_mismatched_key_is_kept_out_until_its_certificate_comes() {
    let dir = Dir::new();
    let files = dir.write("tls", &ecdsa(&["a.test"]));
    let watched = Watched::start(files.clone(), NEVER).await;
    let (cert, key) = ecdsa(&["b.test"]);
    rename_over(&files.key, &key);
    watched.refuses(1).await;
    assert_eq!(watched.served(), "a.test");
    rename_over(&files.cert, &cert);
    watched.serves("b.test").await;
    assert_eq!(watched.counts(), (1, 1));
    watched.stop().await;
}

#[tokio::test]
async fn an_expired_pair_is_kept_out() {
    let dir = Dir::new();
    let pem = dir.path().join("tls.pem");
    let whole = |(cert, key)| format!("{cert}{key}");
    rename_over(&pem, &whole(ecdsa(&["a.test"])));
    let files = PairFiles { cert: pem.clone(), key: pem.clone() };
    let watched = Watched::start(files, NEVER).await;
    let long_ago = wall() - Duration::from_secs(100 * 86_400);
    rename_over(&pem, &whole(ecdsa_at(&["b.test"], long_ago)));
    watched.refuses(1).await;
    assert_eq!(watched.served(), "a.test");
    rename_over(&pem, &whole(ecdsa(&["c.test"])));
    watched.serves("c.test").await;
    assert_eq!(watched.counts(), (1, 1));
    watched.stop().await;
}

#[tokio::test]
async fn a_directory_that_is_deleted_and_made_anew_is_seen_again() {
    let dir = Dir::new();
    let (one, two) = (dir.path().join("one"), dir.path().join("one/two"));
    fs::create_dir_all(&two).unwrap();
    let files = write_pair(&two, "tls", &ecdsa(&["a.test"]));
    let watched = Watched::start(files, NEVER).await;
    for host in ["b.test", "c.test"] {
        let errors = watched.counts().1;
        fs::remove_dir_all(&one).unwrap();
        eventually("refusal", || watched.counts().1 > errors).await;
        fs::create_dir_all(&two).unwrap();
        write_pair(&two, "tls", &ecdsa(&[host]));
        watched.serves(host).await;
    }
    watched.stop().await;
}

#[tokio::test]
async fn a_directory_that_is_replaced_between_two_looks_is_watched_again() {
    let dir = Dir::new();
    let (certs, away) = (dir.path().join("certs"), dir.path().join("away"));
    fs::create_dir(&certs).unwrap();
    let files = write_pair(&certs, "tls", &ecdsa(&["a.test"]));
    let watched = Watched::start(files, NEVER).await;
    fs::rename(&certs, &away).unwrap();
    fs::create_dir(&certs).unwrap();
    write_pair(&certs, "tls", &ecdsa(&["b.test"]));
    watched.serves("b.test").await;
    write_pair(&certs, "tls", &ecdsa(&["c.test"]));
    watched.serves("c.test").await;
    fs::remove_dir_all(&certs).unwrap();
    fs::create_dir(&certs).unwrap();
    write_pair(&certs, "tls", &ecdsa(&["d.test"]));
    watched.serves("d.test").await;
    write_pair(&certs, "tls", &ecdsa(&["e.test"]));
    watched.serves("e.test").await;
    watched.stop().await;
}

#[tokio::test]
async fn without_a_watcher_the_poll_finds_every_change() {
    let dir = Dir::new();
    let files = dir.write("tls", &ecdsa(&["a.test"]));
    let watched = Watched::blind(files.clone(), Duration::from_millis(100)).await;
    dir.write("tls", &ecdsa(&["b.test"]));
    watched.serves("b.test").await;
    rename_over(&files.key, "");
    eventually("refusal", || watched.counts().1 >= 1).await;
    let errors = watched.counts().1;
    // Two more passes over the same fault say nothing more.
    watched.pass(false).await;
    watched.pass(false).await;
    assert_eq!(watched.counts().1, errors);
    watched.stop().await;
}

#[tokio::test]
async fn a_reload_that_is_asked_for_happens_and_tells_again_of_a_fault() {
    let dir = Dir::new();
    let files = dir.write("tls", &ecdsa(&["a.test"]));
    let watched = Watched::blind(files.clone(), NEVER).await;
    dir.write("tls", &ecdsa(&["b.test"]));
    watched.reload_now.notify_one();
    watched.serves("b.test").await;
    rename_over(&files.cert, "");
    for _ in 0..2 {
        let before = watched.counts().1;
        watched.reload_now.notify_one();
        eventually("refusal", || watched.counts().1 > before).await;
    }
    watched.stop().await;
}

#[tokio::test]
async fn a_file_that_is_touched_or_has_noisy_neighbours_is_not_reloaded() {
    let dir = Dir::new();
    let pair = ecdsa(&["a.test"]);
    let files = dir.write("tls", &pair);
    let watched = Watched::start(files.clone(), NEVER).await;
    for n in 0..3 {
        fs::write(dir.path().join("neighbour"), n.to_string()).unwrap();
        rename_over(&files.cert, &pair.0);
        let key = fs::File::options().append(true).open(&files.key).unwrap();
        key.set_modified(wall()).unwrap();
        watched.pass(true).await;
    }
    assert_eq!(watched.counts(), (0, 0));
    rename_over(&files.cert, &format!("{}\n", pair.0));
    eventually("a reload", || watched.counts() == (1, 0)).await;
    watched.stop().await;
}

#[tokio::test]
async fn only_changes_that_matter_wake_the_watch() {
    use notify::EventKind;
    use notify::event::{AccessKind, AccessMode, CreateKind, Flag, ModifyKind};
    let dir = Dir::new();
    let files = dir.write("tls", &ecdsa(&["a.test"]));
    let entries = Entries::behind([files.cert.as_path()]);
    let event = |kind, path: &Path| Ok(Event::new(kind).add_path(path.to_owned()));
    let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let modified = EventKind::Modify(ModifyKind::Any);
    let other = dir.path().join("other");
    let real = files.cert.canonicalize().unwrap();
    assert!(concerns(&event(modified, &real), &entries));
    assert!(!concerns(&event(closed, &real), &entries));
    assert!(!concerns(&event(EventKind::Create(CreateKind::File), &other), &entries));
    let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
    assert!(concerns(&Ok(overflow), &entries));
    assert!(concerns(&Err(notify::Error::generic("lost")), &entries));
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_changes_is_waited_for_only_up_to_the_bound() {
    let changed = Arc::new(Notify::new());
    let noise = Arc::clone(&changed);
    let writer = tokio::spawn(async move {
        loop {
            noise.notify_one();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let begun = Instant::now();
    settle(&changed).await;
    assert!(begun.elapsed() >= SETTLE_MAX && begun.elapsed() < SETTLE_MAX + SETTLE_QUIET);
    writer.abort();
    let _ = writer.await;
    let begun = Instant::now();
    settle(&changed).await;
    assert!(begun.elapsed() >= SETTLE_QUIET && begun.elapsed() < SETTLE_MAX);
}

#[tokio::test]
async fn a_pair_in_memory_has_gauges_that_follow_its_renewal() {
    let store = CertStore::self_signed(&["localhost".to_owned()], wall()).unwrap();
    let metrics = Arc::new(Metrics::new());
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(watch(
        Arc::clone(&store),
        NEVER,
        Arc::new(Notify::new()),
        Arc::clone(&metrics),
        async { drop(stopped.await) },
    ));
    let gauge = metrics.certificate_not_after.clone();
    eventually("gauge", || collected(&gauge) == ["localhost"]).await;
    let later = wall() + Duration::from_secs(86_400);
    let renewed = store.renew_self_signed(later, &metrics).unwrap();
    let at = renewed.not_after.as_duration().as_secs_f64();
    eventually("renewal", || gauge.with_label_values(&["localhost"]).get() == at).await;
    drop(stop);
    task.await.unwrap();
}

#[tokio::test]
async fn a_pair_in_memory_is_renewed_before_it_expires() {
    let two_months_ago = wall() - Duration::from_secs(65 * 86_400);
    let store = CertStore::self_signed(&["localhost".to_owned()], two_months_ago).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(watch(
        Arc::clone(&store),
        NEVER,
        Arc::new(Notify::new()),
        Arc::new(Metrics::new()),
        async { drop(stopped.await) },
    ));
    eventually("renewal", || store.summaries()[0].days_left(wall()) >= 89).await;
    drop(stop);
    task.await.unwrap();
}

/// Collects log lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn events_name_the_file_the_reason_and_no_key() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || writer.clone())
        .finish();
    // With one dispatcher alone, tracing remembers for an event what the first thread that meets it
    // thinks of it, and other tests' threads have no subscriber.
    let _other = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let _guard = tracing::subscriber::set_default(subscriber);

    let dir = Dir::new();
    let files = dir.write("tls", &ecdsa(&["a.test"]));
    let watched = Watched::start(files.clone(), NEVER).await;
    let (cert, key) = ecdsa(&["b.test"]);
    rename_over(&files.key, &key);
    watched.refuses(1).await;
    rename_over(&files.cert, &cert);
    watched.serves("b.test").await;
    let sha256 = watched.store.summaries()[0].sha256.clone();
    watched.stop().await;

    let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let said: Vec<_> = said.lines().filter(|line| line.contains("tls.cert.")).collect();
    let file: PathBuf = files.cert;
    let file = file.display().to_string();
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(said[0].contains("tls.cert.loaded") && said[0].contains("a.test"), "{}", said[0]);
    assert!(said[1].contains("ERROR") && said[1].contains("tls.cert.reload_failed"));
    assert!(said[1].contains(&file) && said[1].contains("does not belong"), "{}", said[1]);
    assert!(said[2].contains("tls.cert.reloaded") && said[2].contains(&sha256), "{}", said[2]);
    for line in key_lines(&key) {
        assert!(!said.iter().any(|said| said.contains(line)), "{said:#?}");
    }
}
