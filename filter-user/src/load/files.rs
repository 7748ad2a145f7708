//! Files of the operating system.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::config::Files;

/// No more than this is read of a file, devices that never end included; what is longer than
/// [`LARGEST_LIST`](crate::config::LARGEST_LIST) is refused.
const MOST: u64 = crate::config::LARGEST_LIST as u64 + 1;

/// Reads from the file system; relative paths are relative to the working directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFiles;

impl Files for DiskFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = open_regular(path)?;
        let length = file.metadata()?.len().min(MOST);
        let mut bytes = Vec::with_capacity(length as usize);
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern =
            pattern.to_str().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not UTF-8 text"))?;
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let mut paths = glob::glob_with(pattern, options)
            .map_err(io::Error::other)?
            .collect::<Result<Vec<_>, _>>()
            .map_err(io::Error::from)?;
        paths.sort();
        Ok(paths)
    }
}

/// Opens a regular file. A pipe would make a reload wait for somebody who writes, and a device never ends.
///
/// # Errors
///
/// When it cannot be opened, or is anything else.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK opening a pipe waits already; for a regular file the flag means nothing.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_whole_and_directories_are_refused() {
        let path = std::env::temp_dir().join(format!("nicgate-files-{}", std::process::id()));
        std::fs::write(&path, "10.0.0.0/8\n").unwrap();
        let read = DiskFiles.read(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read.unwrap(), b"10.0.0.0/8\n");
        assert!(DiskFiles.read(&std::env::temp_dir()).is_err());
        assert!(DiskFiles.read(&path).is_err());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = std::env::temp_dir().join(format!("nicgate-no-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let pipe = folder.join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
        let refused = [pipe, folder.join("socket"), folder.clone(), "/dev/zero".into()]
            .map(|path| (DiskFiles.read(&path).map_err(|error| error.to_string()), path));
        std::fs::remove_dir_all(&folder).unwrap();
        for (read, path) in refused {
            let error = read.expect_err("it is no regular file");
            // A socket cannot even be opened.
            let socket = path.ends_with("socket");
            assert!(socket || error == "it is not a regular file", "{}: {error}", path.display());
        }
    }

    #[test]
    fn patterns_name_files_in_the_order_of_their_names() {
        let folder = std::env::temp_dir().join(format!("nicgate-pattern-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("d.conf.d")).unwrap();
        for name in ["b.conf", "a.conf", ".hidden.conf", "c.txt"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let found = DiskFiles.matching(&folder.join("*.conf"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.unwrap(), ["a.conf", "b.conf"].map(|name| folder.join(name)));
    }
}
