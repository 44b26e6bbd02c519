//! Which directory entries decide what a path means: each link on the way, and the file itself.
//!
//! A Kubernetes Secret is `tls.crt → ..data/tls.crt` with `..data → ..2026_x`, swapped by renaming
//! `..data`; certbot's `live/x/fullchain.pem` points to `../../archive/x/fullchain3.pem`. So every
//! directory that holds a link on the way is watched, and every link in it is of interest. Where
//! the way ends early, the missing entry is, so that its coming back is seen.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The directories to watch, and the entries in them that matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    pub(super) directories: BTreeSet<PathBuf>,
    entries: BTreeSet<PathBuf>,
}

impl Entries {
    /// Follows each path through the file system as it is now.
    pub(super) fn behind<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut found = Self::default();
        for path in paths {
            found.follow(path);
        }
        found
    }

    /// Whether a change at `path` may change what is read.
    pub(super) fn concern(&self, path: &Path) -> bool {
        self.entries.contains(path) || self.directories.contains(path)
    }

    fn follow(&mut self, path: &Path) {
        let Ok(path) = std::path::absolute(path) else { return };
        let mut at = PathBuf::new();
        let mut ahead = steps(&path);
        let mut links = 0;
        while let Some(step) = ahead.pop() {
            let name = match step {
                Step::Restart(root) => {
                    at = root;
                    continue;
                }
                Step::Up => {
                    at.pop();
                    continue;
                }
                Step::Into(name) => name,
            };
            let entry = at.join(name);
            let found = fs::symlink_metadata(&entry);
            if found.as_ref().is_ok_and(fs::Metadata::is_dir) && !ahead.is_empty() {
                at = entry;
                continue;
            }
            let target = fs::read_link(&entry);
            self.directories.insert(at.clone());
            self.entries.insert(entry);
            match target {
                Ok(target) if links < LINKS_MAX => {
                    links += 1;
                    ahead.extend(steps(&target));
                }
                _ => return,
            }
        }
    }
}

enum Step {
    Restart(PathBuf),
    Up,
    Into(OsString),
}

/// The components of `path`, the first one last.
fn steps(path: &Path) -> Vec<Step> {
    let step = |component: Component<'_>| match component {
        Component::Prefix(_) | Component::RootDir => {
            Some(Step::Restart(PathBuf::from(component.as_os_str())))
        }
        Component::CurDir => None,
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Into(name.to_owned())),
    };
    path.components().rev().filter_map(step).collect()
}

/// As many as Linux follows before it says ELOOP.
const LINKS_MAX: u32 = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directories(root: &Path, path: &str) -> Vec<String> {
        let path = root.join(path);
        let found = Entries::behind([path.as_path()]);
        for directory in &found.directories {
            assert!(directory.is_dir(), "{directory:?} can be watched");
        }
        let below = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
        found.directories.iter().map(below).collect()
    }

    #[test]
    fn every_directory_with_a_link_on_the_way_is_watched() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for path in ["secret/..v1", "live/x", "archive/x", "releases/1"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        for path in ["secret/..v1/tls.crt", "archive/x/cert1.pem", "releases/1/tls.crt"] {
            fs::write(root.join(path), "x").unwrap();
        }
        symlink("..v1", root.join("secret/..data")).unwrap();
        symlink("..data/tls.crt", root.join("secret/tls.crt")).unwrap();
        symlink("../../archive/x/cert1.pem", root.join("live/x/cert.pem")).unwrap();
        symlink(root.join("releases/1"), root.join("current")).unwrap();
        symlink("loop-b", root.join("loop-a")).unwrap();
        symlink("loop-a", root.join("loop-b")).unwrap();
        symlink("gone/tls.crt", root.join("dangling")).unwrap();

        assert_eq!(directories(&root, "secret/tls.crt"), ["secret", "secret/..v1"]);
        assert_eq!(directories(&root, "live/x/cert.pem"), ["archive/x", "live/x"]);
        assert_eq!(directories(&root, "current/tls.crt"), ["", "releases/1"]);
        assert_eq!(directories(&root, "releases/1/tls.crt"), ["releases/1"]);
        assert_eq!(directories(&root, "live/gone/deep/tls.crt"), ["live"]);
        assert_eq!(directories(&root, "releases/1/tls.crt/not-a-dir"), ["releases/1"]);
        assert_eq!(directories(&root, "loop-a"), [""]);
        assert_eq!(directories(&root, "dangling"), [""]);

        let secret = Entries::behind([root.join("secret/tls.crt").as_path()]);
        for (path, matters) in [
            ("secret/tls.crt", true),
            ("secret/..data", true),
            ("secret/..v1/tls.crt", true),
            ("secret/..v1", true),
            ("secret", true),
            ("secret/..data_tmp", false),
            ("secret/other", false),
        ] {
            assert_eq!(secret.concern(&root.join(path)), matters, "{path}");
        }
    }
}
