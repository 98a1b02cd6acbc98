//! The file of backends: one `HOST:PORT[,weight=N][,max=N]` a line, `#` begins
//! a comment.
//!
//! Owns: [`Watch`], which looks whether the file has changed, by reading it: it
//! is small, and its times may stand still while it changes. A change counts
//! when two looks in a row have seen it, so that a file that is being written is
//! not taken for a short one. A file that cannot be used, or lists nobody,
//! changes nothing.

use std::path::{Path, PathBuf};

use crate::balancer::roster::{BACKENDS_MAX, Spec};
use crate::small_file;

/// A file of backends, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a look at the file came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing new.
    Same,
    /// It lists these from now on.
    Changed(Vec<Spec>),
    /// After a time in which it could not be used it is what it was before.
    Restored,
    /// It cannot be used: why.
    Bad(String),
}

/// A file that is watched.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    /// What is in force.
    text: Option<String>,
    /// What was seen last, if it is something else.
    pending: Option<Result<String, String>>,
    /// Whether that was told.
    told: bool,
}

impl Watch {
    /// A file that nobody has looked at; it counts as changed once it is there.
    pub(super) fn new(path: &Path) -> Watch {
        Watch { path: path.to_owned(), text: None, pending: None, told: false }
    }

    /// Reads the file for the first time. It may list nobody yet.
    ///
    /// # Errors
    /// It cannot be used: why.
    pub(super) fn open(path: &Path) -> Result<(Watch, Vec<Spec>), String> {
        let mut watch = Watch::new(path);
        let text = watch.read().and_then(|text| parse(&text).map(|specs| (text, specs)));
        let (text, specs) = text.map_err(|why| format!("{}: {why}", path.display()))?;
        watch.text = Some(text);
        Ok((watch, specs))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks whether it has changed.
    pub(super) fn look(&mut self) -> Look {
        let found = self.read();
        if found.as_ref().ok() == self.text.as_ref() && self.text.is_some() {
            self.pending = None;
            return if std::mem::take(&mut self.told) { Look::Restored } else { Look::Same };
        }
        if self.pending.as_ref() != Some(&found) {
            self.pending = Some(found);
            self.told = false;
            return Look::Same;
        }
        if std::mem::replace(&mut self.told, true) {
            return Look::Same;
        }
        self.judge(found)
    }

    fn judge(&mut self, found: Result<String, String>) -> Look {
        let listed = found.and_then(|text| match parse(&text)? {
            specs if specs.is_empty() => Err("it lists no backend".to_owned()),
            specs => Ok((text, specs)),
        });
        match listed {
            Ok((text, specs)) => {
                (self.text, self.pending, self.told) = (Some(text), None, false);
                Look::Changed(specs)
            }
            Err(why) => Look::Bad(why),
        }
    }

    fn read(&self) -> Result<String, String> {
        let bytes = small_file::read(&self.path, FILE_BYTES_MAX);
        let bytes = bytes.map_err(|error| format!("it cannot be read: {error}"))?;
        String::from_utf8(bytes).map_err(|_| "it is no text in UTF-8".to_owned())
    }
}

/// Reads the text of a file of backends.
///
/// # Errors
/// The first line that is wrong and what is wrong with it, or more backends than
/// there may be.
pub fn parse(text: &str) -> Result<Vec<Spec>, String> {
    let mut specs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if specs.len() >= BACKENDS_MAX {
            return Err(format!("it lists more than {BACKENDS_MAX} backends"));
        }
        specs.push(line.parse().map_err(|error| format!("line {}: {error}", number + 1))?);
    }
    Ok(specs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("throng-files-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn specs(list: &str) -> Vec<Spec> {
        list.split_whitespace().map(|spec| spec.parse().unwrap()).collect()
    }

    #[test]
    fn lines_blanks_and_comments() {
        let text = "# nodes\n\n 10.0.0.1:80 # the first\r\n[::1]:81,weight=2\n";
        assert_eq!(parse(text), Ok(specs("10.0.0.1:80 [::1]:81,weight=2")));
        assert_eq!(parse(""), Ok(Vec::new()));
        assert_eq!(parse("a:1\nb\n"), Err("line 2: \"b\" has no port".to_owned()));
        let many = "a:1\n".repeat(BACKENDS_MAX + 1);
        assert!(parse(&many).unwrap_err().contains("more than"));
    }

    #[test]
    fn a_change_counts_when_it_was_seen_twice() {
        let folder = Folder::new("change");
        let path = folder.0.join("backends");
        fs::write(&path, "a:1\n").unwrap();
        let (mut watch, listed) = Watch::open(&path).unwrap();
        assert_eq!(listed, specs("a:1"));
        let mut check = |text: Option<&str>, expected: &[Look]| {
            match text {
                Some(text) => fs::write(&path, text).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            for look in expected {
                assert_eq!(&watch.look(), look, "{text:?}");
            }
        };
        let changed = |list| Look::Changed(specs(list));
        let bad = |why: &str| Look::Bad(why.to_owned());
        check(Some("a:1\n"), &[Look::Same, Look::Same]);
        check(Some("a:1\nb:1\n"), &[Look::Same, changed("a:1 b:1"), Look::Same]);
        check(Some(""), &[Look::Same]);
        check(Some("b:1\n"), &[Look::Same, changed("b:1"), Look::Same]);
        check(Some("c:1\n"), &[Look::Same, changed("c:1")]);
        check(Some(""), &[Look::Same, bad("it lists no backend"), Look::Same]);
        check(
            Some("c:one\n"),
            &[Look::Same, bad("line 1: \"c:one\" does not end in a port from 1 to 65535")],
        );
        check(Some("c:1\n"), &[Look::Restored, Look::Same]);
        let gone = bad("it cannot be read: No such file or directory (os error 2)");
        check(None, &[Look::Same, gone, Look::Same]);
        check(Some("d:1"), &[Look::Same, changed("d:1")]);
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        let folder = Folder::new("refused");
        let check = |path: &Path, expected: &str| {
            let error = Watch::open(path).unwrap_err();
            assert!(error.contains(expected) && error.contains("throng-files"), "{error}");
        };
        check(&folder.0, "no regular file");
        check(&folder.0.join("absent"), "cannot be read");
        let large = folder.0.join("large");
        fs::write(&large, "#".repeat(FILE_BYTES_MAX as usize + 1)).unwrap();
        check(&large, "larger than");
        let binary = folder.0.join("binary");
        fs::write(&binary, [0xff]).unwrap();
        check(&binary, "no text in UTF-8");
    }
}
