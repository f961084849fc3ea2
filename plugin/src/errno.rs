//! The errors: one variant for each errno of Linux, with its number in `asm-generic/errno.h`, which x86, ARM, RISC-V
//! and others share. A variant is the errno's name without its E (`Errno::ConnReset` is ECONNRESET).

use std::fmt;

/// Result of a call of this crate: a value, or the errno that Linux returns in the same case.
pub type Result<T> = std::result::Result<T, Errno>;

macro_rules! errnos {
    ($($variant:ident = $number:literal $name:literal $text:literal,)*) => {
        /// A Linux errno. The discriminant is the number.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(i32)]
        pub enum Errno {
            $(#[doc = concat!("`", $name, "`: ", $text, ".")] $variant = $number,)*
        }

        impl Errno {
            /// Every variant, by ascending number.
            pub const ALL: &[Errno] = &[$(Errno::$variant,)*];

            /// The errno with this positive number; a number that is no errno is EIO.
            pub const fn from_number(number: i32) -> Errno {
                match number {
                    $($number => Errno::$variant,)*
                    _ => Errno::Io,
                }
            }

            /// The name in `<errno.h>`, such as `"ECONNRESET"`.
            pub const fn name(self) -> &'static str {
                match self { $(Errno::$variant => $name,)* }
            }

            /// The text of strerror(3) in the C locale.
            pub const fn text(self) -> &'static str {
                match self { $(Errno::$variant => $text,)* }
            }
        }
    };
}

errnos! {
    Perm = 1 "EPERM" "Operation not permitted",
    NoEnt = 2 "ENOENT" "No such file or directory",
    Srch = 3 "ESRCH" "No such process",
    Intr = 4 "EINTR" "Interrupted system call",
    Io = 5 "EIO" "Input/output error",
    NxIo = 6 "ENXIO" "No such device or address",
    TooBig = 7 "E2BIG" "Argument list too long",
    NoExec = 8 "ENOEXEC" "Exec format error",
    BadF = 9 "EBADF" "Bad file descriptor",
    Child = 10 "ECHILD" "No child processes",
    Again = 11 "EAGAIN" "Resource temporarily unavailable",
    NoMem = 12 "ENOMEM" "Cannot allocate memory",
    Acces = 13 "EACCES" "Permission denied",
    Fault = 14 "EFAULT" "Bad address",
    NotBlk = 15 "ENOTBLK" "Block device required",
    Busy = 16 "EBUSY" "Device or resource busy",
    Exist = 17 "EEXIST" "File exists",
    XDev = 18 "EXDEV" "Invalid cross-device link",
    NoDev = 19 "ENODEV" "No such device",
    NotDir = 20 "ENOTDIR" "Not a directory",
    IsDir = 21 "EISDIR" "Is a directory",
    Inval = 22 "EINVAL" "Invalid argument",
    NFile = 23 "ENFILE" "Too many open files in system",
    MFile = 24 "EMFILE" "Too many open files",
    NoTty = 25 "ENOTTY" "Inappropriate ioctl for device",
    TxtBsy = 26 "ETXTBSY" "Text file busy",
    FBig = 27 "EFBIG" "File too large",
    NoSpc = 28 "ENOSPC" "No space left on device",
    SPipe = 29 "ESPIPE" "Illegal seek",
    RoFs = 30 "EROFS" "Read-only file system",
    MLink = 31 "EMLINK" "Too many links",
    Pipe = 32 "EPIPE" "Broken pipe",
    Dom = 33 "EDOM" "Numerical argument out of domain",
    Range = 34 "ERANGE" "Numerical result out of range",
    Deadlk = 35 "EDEADLK" "Resource deadlock avoided",
    NameTooLong = 36 "ENAMETOOLONG" "File name too long",
    NoLck = 37 "ENOLCK" "No locks available",
    NoSys = 38 "ENOSYS" "Function not implemented",
    NotEmpty = 39 "ENOTEMPTY" "Directory not empty",
    Loop = 40 "ELOOP" "Too many levels of symbolic links",
    NoMsg = 42 "ENOMSG" "No message of desired type",
    IdRm = 43 "EIDRM" "Identifier removed",
    ChRng = 44 "ECHRNG" "Channel number out of range",
    L2NSync = 45 "EL2NSYNC" "Level 2 not synchronized",
    L3Hlt = 46 "EL3HLT" "Level 3 halted",
    L3Rst = 47 "EL3RST" "Level 3 reset",
    LnRng = 48 "ELNRNG" "Link number out of range",
    UnAtch = 49 "EUNATCH" "Protocol driver not attached",
    NoCsi = 50 "ENOCSI" "No CSI structure available",
    L2Hlt = 51 "EL2HLT" "Level 2 halted",
    BadE = 52 "EBADE" "Invalid exchange",
    BadR = 53 "EBADR" "Invalid request descriptor",
    XFull = 54 "EXFULL" "Exchange full",
    NoAno = 55 "ENOANO" "No anode",
    BadRqc = 56 "EBADRQC" "Invalid request code",
    BadSlt = 57 "EBADSLT" "Invalid slot",
    BFont = 59 "EBFONT" "Bad font file format",
    NoStr = 60 "ENOSTR" "Device not a stream",
    NoData = 61 "ENODATA" "No data available",
    Time = 62 "ETIME" "Timer expired",
    NoSr = 63 "ENOSR" "Out of streams resources",
    NoNet = 64 "ENONET" "Machine is not on the network",
    NoPkg = 65 "ENOPKG" "Package not installed",
    Remote = 66 "EREMOTE" "Object is remote",
    NoLink = 67 "ENOLINK" "Link has been severed",
    Adv = 68 "EADV" "Advertise error",
    SrMnt = 69 "ESRMNT" "Srmount error",
    Comm = 70 "ECOMM" "Communication error on send",
    Proto = 71 "EPROTO" "Protocol error",
    MultiHop = 72 "EMULTIHOP" "Multihop attempted",
    DotDot = 73 "EDOTDOT" "RFS specific error",
    BadMsg = 74 "EBADMSG" "Bad message",
    Overflow = 75 "EOVERFLOW" "Value too large for defined data type",
    NotUniq = 76 "ENOTUNIQ" "Name not unique on network",
    BadFd = 77 "EBADFD" "File descriptor in bad state",
    RemChg = 78 "EREMCHG" "Remote address changed",
    LibAcc = 79 "ELIBACC" "Can not access a needed shared library",
    LibBad = 80 "ELIBBAD" "Accessing a corrupted shared library",
    LibScn = 81 "ELIBSCN" ".lib section in a.out corrupted",
    LibMax = 82 "ELIBMAX" "Attempting to link in too many shared libraries",
    LibExec = 83 "ELIBEXEC" "Cannot exec a shared library directly",
    IlSeq = 84 "EILSEQ" "Invalid or incomplete multibyte or wide character",
    Restart = 85 "ERESTART" "Interrupted system call should be restarted",
    StrPipe = 86 "ESTRPIPE" "Streams pipe error",
    Users = 87 "EUSERS" "Too many users",
    NotSock = 88 "ENOTSOCK" "Socket operation on non-socket",
    DestAddrReq = 89 "EDESTADDRREQ" "Destination address required",
    MsgSize = 90 "EMSGSIZE" "Message too long",
    Prototype = 91 "EPROTOTYPE" "Protocol wrong type for socket",
    NoProtoOpt = 92 "ENOPROTOOPT" "Protocol not available",
    ProtoNoSupport = 93 "EPROTONOSUPPORT" "Protocol not supported",
    SocktNoSupport = 94 "ESOCKTNOSUPPORT" "Socket type not supported",
    OpNotSupp = 95 "EOPNOTSUPP" "Operation not supported",
    PfNoSupport = 96 "EPFNOSUPPORT" "Protocol family not supported",
    AfNoSupport = 97 "EAFNOSUPPORT" "Address family not supported by protocol",
    AddrInUse = 98 "EADDRINUSE" "Address already in use",
    AddrNotAvail = 99 "EADDRNOTAVAIL" "Cannot assign requested address",
    NetDown = 100 "ENETDOWN" "Network is down",
    NetUnreach = 101 "ENETUNREACH" "Network is unreachable",
    NetReset = 102 "ENETRESET" "Network dropped connection on reset",
    ConnAborted = 103 "ECONNABORTED" "Software caused connection abort",
    ConnReset = 104 "ECONNRESET" "Connection reset by peer",
    NoBufs = 105 "ENOBUFS" "No buffer space available",
    IsConn = 106 "EISCONN" "Transport endpoint is already connected",
    NotConn = 107 "ENOTCONN" "Transport endpoint is not connected",
    Shutdown = 108 "ESHUTDOWN" "Cannot send after transport endpoint shutdown",
    TooManyRefs = 109 "ETOOMANYREFS" "Too many references: cannot splice",
    TimedOut = 110 "ETIMEDOUT" "Connection timed out",
    ConnRefused = 111 "ECONNREFUSED" "Connection refused",
    HostDown = 112 "EHOSTDOWN" "Host is down",
    HostUnreach = 113 "EHOSTUNREACH" "No route to host",
    Already = 114 "EALREADY" "Operation already in progress",
    InProgress = 115 "EINPROGRESS" "Operation now in progress",
    Stale = 116 "ESTALE" "Stale file handle",
    UClean = 117 "EUCLEAN" "Structure needs cleaning",
    NotNam = 118 "ENOTNAM" "Not a XENIX named type file",
    NAvail = 119 "ENAVAIL" "No XENIX semaphores available",
    IsNam = 120 "EISNAM" "Is a named type file",
    RemoteIo = 121 "EREMOTEIO" "Remote I/O error",
    DQuot = 122 "EDQUOT" "Disk quota exceeded",
    NoMedium = 123 "ENOMEDIUM" "No medium found",
    MediumType = 124 "EMEDIUMTYPE" "Wrong medium type",
    Canceled = 125 "ECANCELED" "Operation canceled",
    NoKey = 126 "ENOKEY" "Required key not available",
    KeyExpired = 127 "EKEYEXPIRED" "Key has expired",
    KeyRevoked = 128 "EKEYREVOKED" "Key has been revoked",
    KeyRejected = 129 "EKEYREJECTED" "Key was rejected by service",
    OwnerDead = 130 "EOWNERDEAD" "Owner died",
    NotRecoverable = 131 "ENOTRECOVERABLE" "State not recoverable",
    RfKill = 132 "ERFKILL" "Operation not possible due to RF-kill",
    HwPoison = 133 "EHWPOISON" "Memory page has hardware error",
}

impl Errno {
    /// The positive number.
    pub const fn number(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Errno {}

/// What an operation returns to C: 0 or more, or a negative errno.
pub(crate) trait CReturn {
    fn c_return(self) -> isize;
}

impl CReturn for Result<()> {
    fn c_return(self) -> isize {
        self.map_or_else(|e| -(e.number() as isize), |()| 0)
    }
}

impl CReturn for Result<usize> {
    /// A length that no memory has stays invalid, and breaks the socket.
    fn c_return(self) -> isize {
        self.map_or_else(|e| -(e.number() as isize), |n| isize::try_from(n).unwrap_or(isize::MIN))
    }
}

/// What a call of C returned: 0 or more, or a negative errno.
pub(crate) fn length(r: isize) -> Result<usize> {
    usize::try_from(r).map_err(|_| Errno::from_number(i32::try_from(r.unsigned_abs()).unwrap_or(0)))
}

/// As [`length`], of a call that returns 0 on success.
pub(crate) fn status(r: i32) -> Result<()> {
    length(r as isize).map(drop)
}
