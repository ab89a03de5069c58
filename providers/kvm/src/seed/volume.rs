//! The volume: a FAT file system in memory.

use std::io::{self, Cursor, Write};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, format_volume};

/// The label by which cloud-init knows the volume, as long as FAT has them.
const LABEL: [u8; 11] = *b"CIDATA     ";
/// The volume's serial number: no clock is asked for one.
const SERIAL: u32 = 0x504f_5341;
/// Room for the file system's own tables, directory and half-filled clusters, bytes.
const OVERHEAD: usize = 64 << 10;
/// Sizes are a multiple of this, bytes.
const STEP: usize = 64 << 10;

/// A disk with `files` in its root directory. It depends on nothing but its arguments: fatfs without its clock dates
/// all files to 1980.
///
/// # Errors
/// What fatfs has to say.
pub(super) fn image(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let content: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    // A cluster of 512 bytes costs less than four more in the tables.
    let size = (content + content / 64 + OVERHEAD).next_multiple_of(STEP);
    let mut image = vec![0; size];
    let options = FormatVolumeOptions::new().volume_label(LABEL).volume_id(SERIAL);
    format_volume(Cursor::new(image.as_mut_slice()), options)?;
    let volume = FileSystem::new(Cursor::new(image.as_mut_slice()), FsOptions::new())?;
    for (name, bytes) in files {
        let mut file = volume.root_dir().create_file(name)?;
        file.write_all(bytes)?;
        file.flush()?;
    }
    volume.unmount()?;
    Ok(image)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn run(program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).output().unwrap();
        let both = [output.stdout.as_slice(), &output.stderr].concat();
        let both = String::from_utf8_lossy(&both).into_owned();
        assert!(output.status.success(), "{program}: {both}");
        both
    }

    #[test]
    fn the_systems_own_tools_take_it_for_what_it_is() {
        let big = vec![b'x'; 3 << 20];
        for user_data in [b"#cloud-config\n".as_slice(), &big] {
            let files = [("meta-data", b"m".as_slice()), ("user-data", user_data), ("network-config", b"")];
            let temp = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(temp.path(), image(&files).unwrap()).unwrap();
            let path = temp.path().to_str().unwrap();
            let probed = run("blkid", &["--probe", "--output", "export", path]);
            for fact in ["LABEL=CIDATA", "LABEL_FATBOOT=CIDATA", "TYPE=vfat"] {
                assert!(probed.lines().any(|line| line == fact), "{fact} in\n{probed}");
            }
            let checked = run("fsck.fat", &["-n", path]);
            assert!(checked.contains("3 files") || checked.contains("4 files"), "{checked}");
            for (name, bytes) in files {
                assert_eq!(run("mtype", &["-i", path, &format!("::{name}")]).as_bytes(), bytes, "{name}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn files_of_any_size_fit_and_are_read_back(sizes in prop::collection::vec(0_usize..400_000, 1..4)) {
            let contents: Vec<(String, Vec<u8>)> = sizes
                .iter()
                .enumerate()
                .map(|(index, size)| (format!("file-{index}-data"), vec![b'a' + u8::try_from(index).unwrap(); *size]))
                .collect();
            let files: Vec<(&str, &[u8])> =
                contents.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
            let first = image(&files).unwrap();
            prop_assert_eq!(&first, &image(&files).unwrap(), "the same bytes each time");
            prop_assert_eq!(first.len() % 512, 0);
            let volume = FileSystem::new(Cursor::new(first), FsOptions::new()).unwrap();
            for (name, bytes) in files {
                let mut read = Vec::new();
                io::Read::read_to_end(&mut volume.root_dir().open_file(name).unwrap(), &mut read).unwrap();
                prop_assert_eq!(read, bytes);
            }
        }
    }
}
