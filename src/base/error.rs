//! The errors of every layer: one variant per Linux errno, so that the C ABI only stores a number. Used by the whole
//! crate; uses none of it. Linux: include/uapi/asm-generic/errno-base.h and errno.h.
//!
//! A variant is the errno's name without its E (`Error::ConnReset` is ECONNRESET); `EWOULDBLOCK` is `Error::Again`.

use core::fmt;

/// Result of a call of this crate: a value, or the errno that Linux returns in the same case.
pub type Result<T> = core::result::Result<T, Error>;

macro_rules! errors {
    ($($variant:ident = $errno:ident $text:literal,)*) => {
        /// A Linux errno. The discriminant is the number programs see in `errno`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        #[repr(i32)]
        pub enum Error {
            $(#[doc = concat!("`", stringify!($errno), "`: ", $text, ".")] $variant = libc::$errno,)*
        }

        impl Error {
            /// Every variant, by ascending number.
            pub const ALL: &[Error] = &[$(Error::$variant,)*];

            /// The error with this number; `None` for a number that is not a Linux errno (0, 41, 58, above 133,
            /// negative).
            pub const fn try_from_errno(errno: i32) -> Option<Error> {
                match errno {
                    $(libc::$errno => Some(Error::$variant),)*
                    _ => None,
                }
            }

            /// The name in `<errno.h>`, such as `"ECONNRESET"`.
            pub const fn name(self) -> &'static str {
                match self { $(Error::$variant => stringify!($errno),)* }
            }

            /// The text of strerror(3) in the C locale.
            pub const fn text(self) -> &'static str {
                match self { $(Error::$variant => $text,)* }
            }
        }
    };
}

errors! {
    Perm = EPERM "Operation not permitted",
    NoEnt = ENOENT "No such file or directory",
    Srch = ESRCH "No such process",
    Intr = EINTR "Interrupted system call",
    Io = EIO "Input/output error",
    NxIo = ENXIO "No such device or address",
    TooBig = E2BIG "Argument list too long",
    NoExec = ENOEXEC "Exec format error",
    BadF = EBADF "Bad file descriptor",
    Child = ECHILD "No child processes",
    Again = EAGAIN "Resource temporarily unavailable",
    NoMem = ENOMEM "Cannot allocate memory",
    Acces = EACCES "Permission denied",
    Fault = EFAULT "Bad address",
    NotBlk = ENOTBLK "Block device required",
    Busy = EBUSY "Device or resource busy",
    Exist = EEXIST "File exists",
    XDev = EXDEV "Invalid cross-device link",
    NoDev = ENODEV "No such device",
    NotDir = ENOTDIR "Not a directory",
    IsDir = EISDIR "Is a directory",
    Inval = EINVAL "Invalid argument",
    NFile = ENFILE "Too many open files in system",
    MFile = EMFILE "Too many open files",
    NoTty = ENOTTY "Inappropriate ioctl for device",
    TxtBsy = ETXTBSY "Text file busy",
    FBig = EFBIG "File too large",
    NoSpc = ENOSPC "No space left on device",
    SPipe = ESPIPE "Illegal seek",
    RoFs = EROFS "Read-only file system",
    MLink = EMLINK "Too many links",
    Pipe = EPIPE "Broken pipe",
    Dom = EDOM "Numerical argument out of domain",
    Range = ERANGE "Numerical result out of range",
    Deadlk = EDEADLK "Resource deadlock avoided",
    NameTooLong = ENAMETOOLONG "File name too long",
    NoLck = ENOLCK "No locks available",
    NoSys = ENOSYS "Function not implemented",
    NotEmpty = ENOTEMPTY "Directory not empty",
    Loop = ELOOP "Too many levels of symbolic links",
    NoMsg = ENOMSG "No message of desired type",
    IdRm = EIDRM "Identifier removed",
    ChRng = ECHRNG "Channel number out of range",
    L2NSync = EL2NSYNC "Level 2 not synchronized",
    L3Hlt = EL3HLT "Level 3 halted",
    L3Rst = EL3RST "Level 3 reset",
    LnRng = ELNRNG "Link number out of range",
    UnAtch = EUNATCH "Protocol driver not attached",
    NoCsi = ENOCSI "No CSI structure available",
    L2Hlt = EL2HLT "Level 2 halted",
    BadE = EBADE "Invalid exchange",
    BadR = EBADR "Invalid request descriptor",
    XFull = EXFULL "Exchange full",
    NoAno = ENOANO "No anode",
    BadRqc = EBADRQC "Invalid request code",
    BadSlt = EBADSLT "Invalid slot",
    BFont = EBFONT "Bad font file format",
    NoStr = ENOSTR "Device not a stream",
    NoData = ENODATA "No data available",
    Time = ETIME "Timer expired",
    NoSr = ENOSR "Out of streams resources",
    NoNet = ENONET "Machine is not on the network",
    NoPkg = ENOPKG "Package not installed",
    Remote = EREMOTE "Object is remote",
    NoLink = ENOLINK "Link has been severed",
    Adv = EADV "Advertise error",
    SrMnt = ESRMNT "Srmount error",
    Comm = ECOMM "Communication error on send",
    Proto = EPROTO "Protocol error",
    MultiHop = EMULTIHOP "Multihop attempted",
    DotDot = EDOTDOT "RFS specific error",
    BadMsg = EBADMSG "Bad message",
    Overflow = EOVERFLOW "Value too large for defined data type",
    NotUniq = ENOTUNIQ "Name not unique on network",
    BadFd = EBADFD "File descriptor in bad state",
    RemChg = EREMCHG "Remote address changed",
    LibAcc = ELIBACC "Can not access a needed shared library",
    LibBad = ELIBBAD "Accessing a corrupted shared library",
    LibScn = ELIBSCN ".lib section in a.out corrupted",
    LibMax = ELIBMAX "Attempting to link in too many shared libraries",
    LibExec = ELIBEXEC "Cannot exec a shared library directly",
    IlSeq = EILSEQ "Invalid or incomplete multibyte or wide character",
    Restart = ERESTART "Interrupted system call should be restarted",
    StrPipe = ESTRPIPE "Streams pipe error",
    Users = EUSERS "Too many users",
    NotSock = ENOTSOCK "Socket operation on non-socket",
    DestAddrReq = EDESTADDRREQ "Destination address required",
    MsgSize = EMSGSIZE "Message too long",
    Prototype = EPROTOTYPE "Protocol wrong type for socket",
    NoProtoOpt = ENOPROTOOPT "Protocol not available",
    ProtoNoSupport = EPROTONOSUPPORT "Protocol not supported",
    SocktNoSupport = ESOCKTNOSUPPORT "Socket type not supported",
    OpNotSupp = EOPNOTSUPP "Operation not supported",
    PfNoSupport = EPFNOSUPPORT "Protocol family not supported",
    AfNoSupport = EAFNOSUPPORT "Address family not supported by protocol",
    AddrInUse = EADDRINUSE "Address already in use",
    AddrNotAvail = EADDRNOTAVAIL "Cannot assign requested address",
    NetDown = ENETDOWN "Network is down",
    NetUnreach = ENETUNREACH "Network is unreachable",
    NetReset = ENETRESET "Network dropped connection on reset",
    ConnAborted = ECONNABORTED "Software caused connection abort",
    ConnReset = ECONNRESET "Connection reset by peer",
    NoBufs = ENOBUFS "No buffer space available",
    IsConn = EISCONN "Transport endpoint is already connected",
    NotConn = ENOTCONN "Transport endpoint is not connected",
    Shutdown = ESHUTDOWN "Cannot send after transport endpoint shutdown",
    TooManyRefs = ETOOMANYREFS "Too many references: cannot splice",
    TimedOut = ETIMEDOUT "Connection timed out",
    ConnRefused = ECONNREFUSED "Connection refused",
    HostDown = EHOSTDOWN "Host is down",
    HostUnreach = EHOSTUNREACH "No route to host",
    Already = EALREADY "Operation already in progress",
    InProgress = EINPROGRESS "Operation now in progress",
    Stale = ESTALE "Stale file handle",
    UClean = EUCLEAN "Structure needs cleaning",
    NotNam = ENOTNAM "Not a XENIX named type file",
    NAvail = ENAVAIL "No XENIX semaphores available",
    IsNam = EISNAM "Is a named type file",
    RemoteIo = EREMOTEIO "Remote I/O error",
    DQuot = EDQUOT "Disk quota exceeded",
    NoMedium = ENOMEDIUM "No medium found",
    MediumType = EMEDIUMTYPE "Wrong medium type",
    Canceled = ECANCELED "Operation canceled",
    NoKey = ENOKEY "Required key not available",
    KeyExpired = EKEYEXPIRED "Key has expired",
    KeyRevoked = EKEYREVOKED "Key has been revoked",
    KeyRejected = EKEYREJECTED "Key was rejected by service",
    OwnerDead = EOWNERDEAD "Owner died",
    NotRecoverable = ENOTRECOVERABLE "State not recoverable",
    RfKill = ERFKILL "Operation not possible due to RF-kill",
    HwPoison = EHWPOISON "Memory page has hardware error",
}

impl Error {
    /// The other name of `EAGAIN`: the call would block.
    pub const WOULD_BLOCK: Error = Error::Again;

    /// The number for `errno` (1 to 133).
    pub const fn errno(self) -> i32 {
        self as i32
    }

    /// The error with this number. Any number that is not a Linux errno becomes `Io`, so that a failure remains a
    /// failure; [`Error::try_from_errno`] distinguishes them.
    pub const fn from_errno(errno: i32) -> Error {
        match Error::try_from_errno(errno) {
            Some(error) => error,
            None => Error::Io,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        std::io::Error::from_raw_os_error(error.errno())
    }
}

impl From<std::io::Error> for Error {
    /// The errno that the system returned; for errors that std made itself, the errno of the same kind.
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        if let Some(errno) = error.raw_os_error() {
            return Error::from_errno(errno);
        }
        match error.kind() {
            ErrorKind::WouldBlock => Error::Again,
            ErrorKind::Interrupted => Error::Intr,
            ErrorKind::NotFound => Error::NoEnt,
            ErrorKind::PermissionDenied => Error::Acces,
            ErrorKind::AlreadyExists => Error::Exist,
            ErrorKind::InvalidInput => Error::Inval,
            ErrorKind::TimedOut => Error::TimedOut,
            ErrorKind::BrokenPipe => Error::Pipe,
            ErrorKind::ConnectionRefused => Error::ConnRefused,
            ErrorKind::ConnectionReset => Error::ConnReset,
            ErrorKind::ConnectionAborted => Error::ConnAborted,
            ErrorKind::NotConnected => Error::NotConn,
            ErrorKind::AddrInUse => Error::AddrInUse,
            ErrorKind::AddrNotAvailable => Error::AddrNotAvail,
            ErrorKind::OutOfMemory => Error::NoMem,
            ErrorKind::Unsupported => Error::OpNotSupp,
            _ => Error::Io,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_that_linux_defines_has_a_variant_that_keeps_it() {
        for errno in 1..=133 {
            match Error::try_from_errno(errno) {
                Some(error) => assert_eq!(error.errno(), errno),
                None => assert!([41, 58].contains(&errno), "errno {errno} has no variant"),
            }
        }
        assert_eq!(Error::ALL.len(), 131);
        for no_errno in [i32::MIN, -1, 0, 41, 58, 134, 524, i32::MAX] {
            assert_eq!(Error::try_from_errno(no_errno), None);
            assert_eq!(Error::from_errno(no_errno), Error::Io);
        }
    }

    #[test]
    fn std_errors_come_back_as_the_errno_they_carry() {
        for &error in Error::ALL {
            assert_eq!(Error::from(std::io::Error::from(error)), error);
        }
        assert_eq!(Error::from(std::io::Error::from(std::io::ErrorKind::WouldBlock)), Error::WOULD_BLOCK);
    }

    #[test]
    fn text_is_what_strerror_says() {
        // std prints strerror's text followed by "(os error N)".
        for &error in Error::ALL {
            let std_text = std::io::Error::from(error).to_string();
            if error != Error::HwPoison {
                assert!(std_text.starts_with(error.text()), "{}: {std_text}", error.name());
            }
        }
    }
}
