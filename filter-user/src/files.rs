//! Files of the operating system.

use std::{fs::File, io::Read, path::Path};

use crate::config::Files;

/// No more than this is read of a file, devices that never end included; what is longer than
/// [`LARGEST_LIST`](crate::config::LARGEST_LIST) is refused.
const MOST: u64 = crate::config::LARGEST_LIST as u64 + 1;

/// Reads from the file system; relative paths are relative to the working directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFiles;

impl Files for DiskFiles {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let length = file.metadata()?.len().min(MOST);
        let mut bytes = Vec::with_capacity(length as usize);
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
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
}
