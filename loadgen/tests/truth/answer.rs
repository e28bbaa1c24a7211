//! What a server answers: well-formed in several ways, or wrong in one.

/// What every well-behaved answer says.
pub(crate) const BODY: &[u8] = b"hello world";

/// One kind of misbehaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Fault {
    /// Resets the connection instead of an answer.
    Reset,
    /// Closes the connection instead of an answer.
    Close,
    /// Closes it within the head.
    CloseInHead,
    /// Closes it within the body.
    ShortBody,
    /// Speaks another protocol.
    Malformed,
    /// Answers with status 503.
    Status503,
    /// Answers with another body of the same length.
    WrongBody,
    /// Answers with a shorter body, and says so.
    OtherLength,
    /// Sends more bytes than the answer has.
    ExtraBytes,
    /// Does not answer, and keeps the connection.
    Hang,
}

impl Fault {
    pub(crate) const ALL: [Fault; 10] = [
        Fault::Reset,
        Fault::Close,
        Fault::CloseInHead,
        Fault::ShortBody,
        Fault::Malformed,
        Fault::Status503,
        Fault::WrongBody,
        Fault::OtherLength,
        Fault::ExtraBytes,
        Fault::Hang,
    ];

    /// What is sent.
    pub(super) fn bytes(self) -> &'static [u8] {
        match self {
            Fault::Reset | Fault::Close | Fault::Hang => b"",
            Fault::CloseInHead => b"HTTP/1.1 200 OK\r\nContent-Le",
            Fault::ShortBody => b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello",
            Fault::Malformed => b"220 mail.example.com ESMTP\r\n\r\n",
            Fault::Status503 => {
                b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 11\r\n\r\nhello world"
            }
            Fault::WrongBody => b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\njello world",
            Fault::OtherLength => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            Fault::ExtraBytes => b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world!",
        }
    }

    /// Whether that is a whole response.
    pub(crate) fn responds(self) -> bool {
        match self {
            Fault::Status503 | Fault::WrongBody | Fault::OtherLength | Fault::ExtraBytes => true,
            Fault::Reset
            | Fault::Close
            | Fault::CloseInHead
            | Fault::ShortBody
            | Fault::Malformed
            | Fault::Hang => false,
        }
    }

    /// Whether the server closes the connection after it.
    pub(super) fn closes(self) -> bool {
        match self {
            Fault::Reset | Fault::Close | Fault::CloseInHead | Fault::ShortBody => true,
            Fault::Malformed
            | Fault::Status503
            | Fault::WrongBody
            | Fault::OtherLength
            | Fault::ExtraBytes
            | Fault::Hang => false,
        }
    }
}

/// How a well-behaved answer is framed; all of these are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Framing {
    /// With its length.
    Length,
    /// In chunks, with an extension and a trailer (RFC 9112 §7.1).
    Chunked,
    /// It ends with the connection.
    UntilClose,
    /// After a 100 and a 103 (RFC 9110 §15.2).
    Interim,
    /// With its length, one byte per write.
    Bytes,
    /// With its length, after a hundred other fields.
    ManyFields,
}

impl Framing {
    pub(crate) const ALL: [Framing; 6] = [
        Framing::Length,
        Framing::Chunked,
        Framing::UntilClose,
        Framing::Interim,
        Framing::Bytes,
        Framing::ManyFields,
    ];

    /// An answer; with `announces`, one that says the connection is closed after it.
    pub(super) fn answer(self, announces: bool) -> Vec<u8> {
        let mut answer = Vec::new();
        if self == Framing::Interim {
            answer.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            answer.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n");
        }
        answer.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        if self == Framing::ManyFields {
            for number in 0..100 {
                answer.extend_from_slice(format!("X-Field-{number}: value\r\n").as_bytes());
            }
        }
        if announces {
            answer.extend_from_slice(b"Connection: close\r\n");
        }
        match self {
            Framing::Length | Framing::Interim | Framing::Bytes | Framing::ManyFields => {
                answer.extend_from_slice(
                    format!("Content-Length: {}\r\n\r\n", BODY.len()).as_bytes(),
                );
                answer.extend_from_slice(BODY);
            }
            Framing::Chunked => {
                let (first, rest) = BODY.split_at(3);
                answer.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in [first, rest] {
                    answer.extend_from_slice(format!("{:x};a=b\r\n", chunk.len()).as_bytes());
                    answer.extend_from_slice(chunk);
                    answer.extend_from_slice(b"\r\n");
                }
                answer.extend_from_slice(b"0\r\nX-Trailer: end\r\n\r\n");
            }
            Framing::UntilClose => {
                answer.extend_from_slice(b"\r\n");
                answer.extend_from_slice(BODY);
            }
        }
        answer
    }

    /// Most bytes of one write.
    pub(super) fn piece(self) -> usize {
        match self {
            Framing::Bytes => 1,
            _ => usize::MAX,
        }
    }
}
