//! Where output goes: the paths given to output options, and standard output.
//!
//! One mechanism serves all options of all verbs:
//!
//! - `-` is standard output.
//! - An existing path that is not a regular file (a pipe, a device, a terminal, `/dev/fd/N`) is
//!   written to.
//! - A regular file is replaced as a whole, also through a symbolic link, or left as it was:
//!   readers see the old or the new content. It keeps its permissions and its owner. The new
//!   content has no name until it is complete, so even a kill leaves no partial file.
//! - A reader that stops before the end, such as `head`, is not an error.
//! - While output waits for its reader, SIGINT, SIGTERM and SIGHUP act at once: there is nothing
//!   left to end in an orderly way.
//!
//! Nothing here panics, whatever the state of standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::unistd::{AccessFlags, dup, eaccess, linkat};

use crate::signals;

/// The path that means standard output.
const STDOUT: &str = "-";

/// Whether `path` means standard output: `-`, or the system's name for it (`/dev/stdout`).
#[must_use]
pub fn is_stdout(path: &Path) -> bool {
    path == Path::new(STDOUT) || Place::of(path).is_ok_and(|it| it == Place::Descriptor(1))
}

/// Checks whether a path can be written, as far as that is known in advance. Nothing is created or
/// opened for the check.
///
/// # Errors
///
/// If it cannot be written.
pub fn check(path: &Path) -> io::Result<()> {
    if path == Path::new(STDOUT) {
        return Ok(());
    }
    match Place::of(path)? {
        Place::Descriptor(1) => stdout_is_open(),
        Place::Descriptor(number) => descriptor(number).map(drop),
        Place::Special(path) => may(&path, AccessFlags::W_OK),
        Place::Regular(path) => {
            if fs::metadata(&path).is_ok() {
                may(&path, AccessFlags::W_OK)?;
            }
            let folder = folder_of(&path);
            match fs::metadata(folder) {
                Err(_) => Err(io::Error::other(format!(
                    "there is no folder {}",
                    folder.display()
                ))),
                Ok(metadata) if !metadata.is_dir() => Err(io::Error::other(format!(
                    "{} is not a folder",
                    folder.display()
                ))),
                Ok(_) => may(folder, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("no file can be created in {}: {error}", folder.display()),
                    )
                }),
            }
        }
    }
}

fn may(path: &Path, access: AccessFlags) -> io::Result<()> {
    Ok(eaccess(path, access)?)
}

/// Writes all of `bytes` to a path.
///
/// # Errors
///
/// If writing fails; a regular file is then unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if is_stdout(path) {
        return print(bytes);
    }
    match Place::of(path)? {
        Place::Descriptor(1) => print(bytes),
        Place::Descriptor(number) => write_into(descriptor(number)?, bytes),
        Place::Special(path) => {
            let mut options = OpenOptions::new();
            // A terminal that is written to does not become the controlling terminal.
            let options = options.append(true).custom_flags(libc::O_NOCTTY);
            // Opening a pipe waits until the other end is opened.
            let _now = signals::act_at_once();
            write_into(options.open(path)?, bytes)
        }
        Place::Regular(path) => replace(&path, bytes),
    }
}

/// Writes all of `bytes` to standard output.
///
/// # Errors
///
/// If it is closed or full. A reader that stops before the end is not an error.
pub fn print(bytes: &[u8]) -> io::Result<()> {
    stdout_is_open()?;
    write_into(io::stdout().lock(), bytes)
}

/// Whether two paths mean the same place, so that one output would replace the other or be mixed
/// with it. Devices do not count: `/dev/null` accepts anything, and a terminal is read by a person
/// who can tell the outputs apart.
#[must_use]
pub fn is_same(one: &Path, other: &Path) -> bool {
    if is_stdout(one) && is_stdout(other) {
        return true;
    }
    let (Some(one), Some(other)) = (Identity::of(one), Identity::of(other)) else {
        return false;
    };
    match (&one.replaced, &other.replaced) {
        // Each of two names of one file is replaced separately.
        (Some(one), Some(other)) => one == other,
        _ => one.file.is_some() && one.file == other.file,
    }
}

/// The identity of a path, for comparison.
struct Identity {
    /// Device and inode of an existing file.
    file: Option<(u64, u64)>,
    /// The path that will be replaced.
    replaced: Option<PathBuf>,
}

impl Identity {
    /// `None` for devices, and for paths that do not exist.
    fn of(path: &Path) -> Option<Self> {
        let place = match path == Path::new(STDOUT) {
            true => Place::Descriptor(1),
            false => Place::of(path).ok()?,
        };
        let (metadata, replaced) = match place {
            Place::Descriptor(number) => (descriptor(number).ok()?.metadata(), None),
            Place::Special(path) => (fs::metadata(path), None),
            Place::Regular(path) => {
                let folder = fs::canonicalize(folder_of(&path)).ok()?;
                let replaced = folder.join(path.file_name()?);
                (fs::metadata(path), Some(replaced))
            }
        };
        let is_device =
            |it: &fs::Metadata| it.file_type().is_char_device() || it.file_type().is_block_device();
        let metadata = metadata.ok().filter(|it| !is_device(it));
        Some(Self {
            file: metadata.map(|it| (it.dev(), it.ino())),
            replaced,
        })
    }
}

/// Checks that this process was started with a writable standard output.
///
/// # Errors
///
/// If it was not.
pub fn stdout_is_open() -> io::Result<()> {
    match STDOUT_IS_CLOSED.load(Relaxed) {
        true => Err(Errno::EBADF.into()),
        false => Ok(()),
    }
}

fn write_into(mut out: impl Write, bytes: &[u8]) -> io::Result<()> {
    let _now = signals::act_at_once();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Whether this process was started with a standard output that is closed or read-only.
static STDOUT_IS_CLOSED: AtomicBool = AtomicBool::new(false);

/// The standard library opens `/dev/null` in place of a closed standard output before `main`, so
/// printed text would vanish without an error; it also ignores the error of a read-only one. This
/// check runs earlier.
// SAFETY: the section contains pointers to functions of this type, which the C library calls before
// `main`.
#[allow(unsafe_code)]
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = look_at_stdout;

#[allow(unsafe_code)]
extern "C" fn look_at_stdout() {
    // SAFETY: the call takes a number, accesses no memory of this process except errno, and does
    // not depend on later initialization.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFL) };
    let is_written = flags >= 0 && flags & libc::O_ACCMODE != libc::O_RDONLY;
    STDOUT_IS_CLOSED.store(!is_written, Relaxed);
}

/// The object behind a path, after following symbolic links.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// An open file of this process, such as `/dev/stdout` or `/dev/fd/63`. It may be a regular
    /// file; its position belongs to the process that opened it.
    Descriptor(i32),
    /// An existing object that is not a regular file.
    Special(PathBuf),
    /// A regular file, or a path that does not exist yet.
    Regular(PathBuf),
}

/// The number of consecutive links that the kernel follows (`path_resolution(7)`).
const LINKS_MAX: usize = 40;

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(is_folder());
        }
        let mut path = path.to_owned();
        for _ in 0..LINKS_MAX {
            if let Some(number) = descriptor_of(&path) {
                return Ok(Place::Descriptor(number));
            }
            let kind = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata.file_type(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Place::Regular(path));
                }
                Err(error) => return Err(error),
            };
            if kind.is_symlink() && is_of_another_process(&path) {
                return Ok(Place::Special(path));
            } else if kind.is_symlink() {
                // A link is relative to its own folder.
                path = folder_of(&path).join(fs::read_link(&path)?);
            } else if kind.is_dir() {
                return Err(is_folder());
            } else if kind.is_socket() {
                return Err(io::Error::other("it is a socket, which cannot be opened"));
            } else if kind.is_file() {
                return Ok(Place::Regular(path));
            } else {
                return Ok(Place::Special(path));
            }
        }
        Err(Errno::ELOOP.into())
    }
}

/// The number in a `/proc/self/fd/` path, whatever links lead there.
fn descriptor_of(path: &Path) -> Option<i32> {
    let number = path.file_name()?.to_str()?.parse().ok()?;
    let folder = fs::canonicalize(folder_of(path)).ok()?;
    let mine = [
        fs::canonicalize("/proc/self/fd"),
        fs::canonicalize("/proc/thread-self/fd"),
    ];
    mine.into_iter()
        .flatten()
        .any(|it| it == folder)
        .then_some(number)
}

/// Whether a path is an open file of another process: only the kernel can follow such a link.
fn is_of_another_process(path: &Path) -> bool {
    let folder = fs::canonicalize(folder_of(path));
    folder.is_ok_and(|it| it.starts_with("/proc") && it.ends_with("fd"))
}

fn is_folder() -> io::Error {
    io::Error::new(io::ErrorKind::IsADirectory, "it is a folder, not a file")
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Duplicates a descriptor that this process was given to write to.
fn descriptor(number: i32) -> io::Result<File> {
    if number < 0 {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: the number is borrowed only for this call, which fails if nothing is open under it.
    #[allow(unsafe_code)]
    let lent = unsafe { BorrowedFd::borrow_raw(number) };
    let own = File::from(dup(lent)?);
    let mode = OFlag::from_bits_retain(fcntl(&own, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE;
    match mode == OFlag::O_RDONLY {
        true => Err(io::Error::other("it is not open for writing")),
        false => Ok(own),
    }
}

/// Replaces or creates a regular file.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let old = match OpenOptions::new().write(true).open(path) {
        // A read-only file is not replaced, even if its folder would allow it.
        Ok(file) => Some(file.metadata()?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let new = New::create(folder_of(path))?;
    let mut file = new.file();
    file.write_all(bytes)?;
    if let Some(old) = &old {
        // Only root may change the owner; if the owner is already right, nothing changes.
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            let _ = fchown(file, Some(old.uid()), Some(old.gid()));
        }
        file.set_permissions(old.permissions())?;
    }
    file.sync_all()?;
    match new.put(path) {
        // The file is a mount point, as containers use for single files: it can be written to but
        // not replaced.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => fs::write(path, bytes),
        outcome => outcome,
    }
}

/// The prefix of temporary files. Where the file system supports unnamed files, such a name exists
/// only for the duration of a rename.
const UNFINISHED: &str = ".loadgen-";

/// A new file that is not in place yet, and that disappears if this process ends before it is.
enum New {
    /// A file without a name.
    Unnamed(File),
    /// A named file, for file systems without unnamed files, such as network file systems.
    Named(tempfile::NamedTempFile),
}

impl New {
    /// Creates a file with the permissions of any new file, according to the umask.
    fn create(folder: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .mode(0o666)
            .custom_flags(libc::O_TMPFILE);
        match options.open(folder) {
            Ok(file) if Path::new(&own_link(&file)).exists() => Ok(New::Unnamed(file)),
            Ok(_) => Ok(New::Named(named(folder)?)),
            Err(error) if lacks_unnamed(&error) => Ok(New::Named(named(folder)?)),
            Err(error) => Err(error),
        }
    }

    fn file(&self) -> &File {
        match self {
            New::Unnamed(file) => file,
            New::Named(file) => file.as_file(),
        }
    }

    fn put(self, path: &Path) -> io::Result<()> {
        match self {
            New::Named(file) => Ok(file.persist(path).map(drop)?),
            New::Unnamed(file) => {
                if link(&file, path).is_ok() {
                    return Ok(());
                }
                // A name can only be given where none exists; the rename then replaces the old
                // file.
                let name = |name: &Path| link(&file, name);
                let made = tempfile::Builder::new()
                    .prefix(UNFINISHED)
                    .make_in(folder_of(path), name);
                match made {
                    Ok(named) => Ok(named.persist(path).map(drop)?),
                    Err(error) => Err(error),
                }
            }
        }
    }
}

fn lacks_unnamed(error: &io::Error) -> bool {
    // Old kernels interpret the flag as a request to write to the folder.
    [libc::EOPNOTSUPP, libc::EISDIR, libc::EINVAL]
        .map(Some)
        .contains(&error.raw_os_error())
}

fn named(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
}

/// Names an unnamed file (`open(2)`, O_TMPFILE).
fn link(file: &File, name: &Path) -> io::Result<()> {
    let unnamed = own_link(file);
    Ok(linkat(
        AT_FDCWD,
        unnamed.as_str(),
        AT_FDCWD,
        name,
        AtFlags::AT_SYMLINK_FOLLOW,
    )?)
}

/// The path of a descriptor in `/proc`, which may not be mounted.
fn own_link(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use nix::sys::stat::Mode;
    use nix::unistd::{Uid, mkfifo};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let old = at("old");
        fs::write(&old, "a longer text than the new one").unwrap();
        fs::set_permissions(&old, fs::Permissions::from_mode(0o640)).unwrap();
        let reader = File::open(&old).unwrap();
        symlink("old", at("link")).unwrap();
        symlink("link", at("link-to-link")).unwrap();
        symlink("made", at("dangling")).unwrap();
        for name in ["old", "link", "link-to-link", "dangling", "new"] {
            check(&at(name)).unwrap();
            write(&at(name), name.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(at(name)).unwrap(), name);
        }
        assert!(at("link-to-link").is_symlink() && at("dangling").is_symlink());
        assert_eq!(fs::read_to_string(&old).unwrap(), "link-to-link");
        assert_eq!(fs::read_to_string(at("made")).unwrap(), "dangling");
        assert_eq!(mode(&old), 0o640);
        // A reader that has the file open still sees the complete old content.
        let text = io::read_to_string(reader).unwrap();
        assert_eq!(text, "a longer text than the new one");
        let expected = ["dangling", "link", "link-to-link", "made", "new", "old"];
        assert_eq!(names(folder.path()), expected);
    }

    #[test]
    fn files_without_names_are_not_needed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for text in ["one", "other"] {
            let new = New::Named(named(folder.path()).unwrap());
            new.file().write_all(text.as_bytes()).unwrap();
            new.put(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        drop(New::Named(named(folder.path()).unwrap()));
        assert_eq!(names(folder.path()), ["file"]);
        let new_file = folder.path().join("new");
        fs::write(&new_file, "").unwrap();
        assert_eq!(mode(&path), mode(&new_file), "the umask decides");
    }

    #[test]
    fn pipes_and_devices_are_written_into() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mkfifo(&pipe, Mode::from_bits_truncate(0o600)).unwrap();
        let link = folder.path().join("link");
        symlink("pipe", &link).unwrap();
        let bytes = vec![b'x'; 200_000];
        for path in [&pipe, &link] {
            check(path).unwrap();
            let reader = pipe.clone();
            let reader = thread::spawn(move || fs::read(reader).unwrap());
            write(path, &bytes).unwrap();
            assert_eq!(reader.join().unwrap(), bytes);
        }
        // A reader that needs only the start has what it wanted.
        let reader = pipe.clone();
        let reader = thread::spawn(move || {
            let mut first = [0; 1];
            File::open(reader).unwrap().read_exact(&mut first).unwrap();
        });
        write(&pipe, &bytes).unwrap();
        reader.join().unwrap();
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        assert_eq!(names(folder.path()), ["link", "pipe"]);

        let full = write(Path::new("/dev/full"), b"x").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn descriptors_keep_their_position() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"before, ").unwrap();
        let number = file.as_raw_fd();
        let link = folder.path().join("link");
        symlink(format!("/dev/fd/{number}"), &link).unwrap();
        let process = std::process::id();
        for form in [
            format!("/dev/fd/{number}"),
            format!("/proc/self/fd/{number}"),
            format!("/proc/{process}/fd/{number}"),
            link.display().to_string(),
        ] {
            let form = Path::new(&form);
            assert_eq!(
                Place::of(form).unwrap(),
                Place::Descriptor(number),
                "{form:?}"
            );
            check(form).unwrap();
            write(form, b"x").unwrap();
        }
        file.write_all(b", after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before, xxxx, after");
        let closed = write(Path::new("/dev/fd/987654"), b"x").unwrap_err();
        assert_eq!(closed.raw_os_error(), Some(libc::EBADF));
        assert!(check(Path::new("/dev/fd/987654")).is_err());
        let read_only = File::open(&path).unwrap();
        let read_only = format!("/dev/fd/{}", read_only.as_raw_fd());
        let error = check(Path::new(&read_only)).unwrap_err().to_string();
        assert_eq!(error, "it is not open for writing");
        write(Path::new(&read_only), b"x").unwrap_err();
        assert_eq!(
            Place::of(Path::new("/dev/stdout")).unwrap(),
            Place::Descriptor(1)
        );
        assert_eq!(
            Place::of(Path::new("/dev/stderr")).unwrap(),
            Place::Descriptor(2)
        );
    }

    #[test]
    fn what_cannot_be_written_is_found_out_before_and_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "old").unwrap();
        fs::create_dir(at("folder")).unwrap();
        symlink("folder", at("link")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        let before = names(folder.path());
        for (name, message) in [
            ("folder", "it is a folder, not a file"),
            ("link", "it is a folder, not a file"),
            ("new/", "it is a folder, not a file"),
            ("loop", "symbolic links"),
            ("socket", "it is a socket"),
            ("none/file", "there is no folder"),
            ("file/file", "Not a directory"),
        ] {
            let path = at(name);
            let error = check(&path).unwrap_err().to_string();
            assert!(error.contains(message), "{name}: {error}");
            write(&path, b"new").unwrap_err();
        }
        assert_eq!(names(folder.path()), before);
    }

    #[test]
    fn permissions_are_respected() {
        if Uid::effective().is_root() {
            let why = "SKIPPED: permissions_are_respected: root may write everywhere";
            let _ = writeln!(io::stderr(), "{why}");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
        assert!(check(&file).is_err());
        write(&file, b"new").unwrap_err();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
        let new = folder.path().join("new");
        let error = check(&new).unwrap_err().to_string();
        assert!(error.contains("no file can be created in"), "{error}");
        write(&new, b"new").unwrap_err();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn the_same_place_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink("file", at("link")).unwrap();
        let (file, null) = (at("file"), PathBuf::from("/dev/null"));
        for pipe in ["pipe", "other-pipe"] {
            mkfifo(&at(pipe), Mode::from_bits_truncate(0o600)).unwrap();
        }
        symlink("pipe", at("pipe-link")).unwrap();
        let one = File::create(at("one")).unwrap();
        fs::hard_link(at("one"), at("one-again")).unwrap();
        let open = PathBuf::from(format!("/dev/fd/{}", one.as_raw_fd()));
        for (one, other, same) in [
            (Path::new("-"), Path::new("-"), true),
            (Path::new("-"), Path::new("./-"), false),
            (&file, &at("link"), true),
            (&file, &at("./file"), true),
            (&file, &at("other"), false),
            (&null, &null, false),
            (Path::new("-"), Path::new("/dev/stdout"), true),
            (Path::new("/dev/stdout"), Path::new("/dev/fd/1"), true),
            (&at("pipe"), &at("pipe"), true),
            (&at("pipe"), &at("pipe-link"), true),
            (&at("pipe"), &at("other-pipe"), false),
            // The replaced file has its own name afterwards.
            (&at("one"), &at("one-again"), false),
            (&open, &open, true),
            (&open, &at("one"), true),
            (&open, &file, false),
        ] {
            assert_eq!(is_same(one, other), same, "{one:?} {other:?}");
            assert_eq!(is_same(other, one), same, "{other:?} {one:?}");
        }
    }
}
