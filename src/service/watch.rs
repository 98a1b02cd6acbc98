//! Files that take effect when they change, without a signal: the certificates,
//! which others renew, and of which nobody may be there to tell the process, as
//! in a pod.
//!
//! Owns: [`FileWatch`], a thread that looks at them. Never: what is in them.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never};

use crate::small_file::Stamp;

/// How often they are looked at. A change takes effect when a second look finds
/// nothing more: certificate and key are seldom replaced at once.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Looks at files until it is dropped.
pub(super) struct FileWatch {
    changes: Receiver<()>,
    /// The thread ends when it is gone.
    _wanted: Sender<()>,
}

impl FileWatch {
    /// Begins to look: what is read from now on is read again when it changes.
    /// Without files there is nothing to look at, and no thread.
    pub(super) fn start(paths: Vec<PathBuf>) -> FileWatch {
        let (wanted, unwanted) = bounded(0);
        let (sender, changes) = bounded(1);
        if paths.is_empty() {
            return FileWatch { changes: never(), _wanted: wanted };
        }
        let files = Files::new(paths);
        // A thread of its own, as a file system may hang.
        let look = move || look(files, &sender, &unwanted);
        match thread::Builder::new().name("throng-files".to_owned()).spawn(look) {
            Ok(_) => FileWatch { changes, _wanted: wanted },
            Err(error) => {
                log::warn!("certificates are read again at a reload only: no thread to watch them: {error}");
                FileWatch { changes: never(), _wanted: wanted }
            }
        }
    }

    /// Says when some of them have changed.
    pub(super) fn changes(&self) -> &Receiver<()> {
        &self.changes
    }
}

fn look(mut files: Files, changes: &Sender<()>, unwanted: &Receiver<()>) {
    while unwanted.recv_timeout(LOOK_AGAIN) == Err(RecvTimeoutError::Timeout) {
        if files.have_changed() {
            // One that waits is as good as two.
            let _ = changes.try_send(());
        }
    }
}

struct Files {
    paths: Vec<PathBuf>,
    /// At the last look.
    seen: Vec<Option<Stamp>>,
    /// When they were last said to have changed.
    told: Vec<Option<Stamp>>,
}

impl Files {
    fn new(paths: Vec<PathBuf>) -> Files {
        let now = stamps(&paths);
        Files { paths, seen: now.clone(), told: now }
    }

    /// Whether they are not as they were, and are no longer being changed.
    fn have_changed(&mut self) -> bool {
        let now = stamps(&self.paths);
        let settled = now == self.seen;
        self.seen = now;
        let changed = settled && self.seen != self.told;
        if changed {
            self.told.clone_from(&self.seen);
        }
        changed
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    paths.iter().map(|path| Stamp::of(path)).collect()
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_change_is_told_once_when_it_is_over() {
        let folder = env::temp_dir().join(format!("throng-watch-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let of = |name: &str| folder.join(name);
        let write = |name: &str, text: &str| fs::write(of(name), text).expect("a file");
        for (name, text) in [("1", "one"), ("2", "two"), ("key", "k")] {
            write(name, text);
        }
        symlink(of("1"), of("now")).expect("a link");
        let mut files = Files::new(vec![of("now"), of("key")]);
        let mut check = |what: &str, expected: [bool; 3]| {
            assert_eq!([(); 3].map(|()| files.have_changed()), expected, "{what}");
        };
        check("nothing", [false; 3]);
        // The file behind the link is another, of the same size and perhaps the same age.
        symlink(of("2"), of("next")).expect("a link");
        fs::rename(of("next"), of("now")).expect("renamed");
        check("replaced", [false, true, false]);
        write("key", "kk");
        check("written", [false, true, false]);
        fs::remove_file(of("key")).expect("removed");
        check("gone", [false, true, false]);
        write("key", "kkk");
        assert!(!files.have_changed());
        write("2", "more");
        let told = [(); 3].map(|()| files.have_changed());
        assert_eq!(told, [false, true, false], "one after the other");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
