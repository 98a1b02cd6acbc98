//! Small files that an operator names, such as keys and certificates: read
//! whole, and looked at for changes.
//!
//! Owns: [`read`] and [`Stamp`]. Never: what is in a file, or when to look.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The bytes of a file, links followed.
///
/// # Errors
/// It cannot be read, is larger than `bytes_max`, or is no regular file: for
/// what comes out of a pipe a process might wait for ever.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(io::Error::other(format!("it is larger than {bytes_max} bytes"))),
        false => Ok(bytes),
    }
}

/// What shows that a file is another one or was written to: device, inode, size,
/// and when data and state last changed, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(u64, u64, u64, [i64; 4]);

impl Stamp {
    /// `None` if there is no file, or no way to it. Links are followed, as
    /// Kubernetes puts the files of Secrets behind some.
    pub(crate) fn of(path: &Path) -> Option<Stamp> {
        let file = fs::metadata(path).ok()?;
        let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
        Some(Stamp(file.dev(), file.ino(), file.size(), times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let path = std::env::temp_dir().join(format!("throng-small-file-{}", std::process::id()));
        fs::write(&path, b"12345").unwrap();
        let before = Stamp::of(&path);
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(read(&path, 4).unwrap_err().to_string().contains("larger than 4 bytes"));
        assert_eq!(Stamp::of(&path), before, "it was only read");
        fs::write(&path, b"1234").unwrap();
        assert_ne!(Stamp::of(&path), before);
        fs::remove_file(&path).unwrap();
        assert_eq!(Stamp::of(&path), None);
        assert_eq!(read(&path, 5).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        for path in ["/dev/null", "/dev/zero", "/"] {
            assert!(read(Path::new(path), 5).unwrap_err().to_string().contains("no regular file"), "{path}");
        }
    }
}
