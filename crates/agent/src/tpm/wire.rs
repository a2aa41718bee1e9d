//! Commands and responses as bytes, the highest first.

const TAG_NO_SESSIONS: u16 = 0x8001;
const TAG_SESSIONS: u16 = 0x8002;
const HEAD_BYTES: usize = 10;
/// `TPM_RS_PW` with no nonce, no attributes and an empty password, after its length.
const PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];

/// A command as it is put together.
pub(super) struct Command {
    code: u32,
    tag: u16,
    bytes: Vec<u8>,
}

impl Command {
    pub(super) fn new(code: u32) -> Self {
        Self { code, tag: TAG_NO_SESSIONS, bytes: Vec::new() }
    }

    pub(super) fn code(&self) -> u32 {
        self.code
    }

    pub(super) fn handle(self, handle: u32) -> Self {
        self.u32(handle)
    }

    /// Authorizes the first handle by an empty password; it comes after all handles.
    pub(super) fn password(self) -> Self {
        Self { tag: TAG_SESSIONS, ..self.bytes(&PASSWORD) }
    }

    pub(super) fn u16(self, number: u16) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(super) fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Bytes after their length in 16 bits.
    pub(super) fn sized(self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).expect("what is sent is short");
        self.u16(length).bytes(bytes)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(HEAD_BYTES + self.bytes.len()).expect("what is sent is short");
        [&self.tag.to_be_bytes()[..], &length.to_be_bytes(), &self.code.to_be_bytes(), &self.bytes].concat()
    }
}

/// How long a response says it is; before that is known, as long as its header.
pub(super) fn stated_length(response: &[u8]) -> usize {
    let stated = response.get(2..6).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_be_bytes(*bytes));
    stated.and_then(|length| usize::try_from(length).ok()).unwrap_or(0).max(HEAD_BYTES)
}

/// The response code and what follows the header.
pub(super) fn response(response: &[u8]) -> Option<(u32, &[u8])> {
    let (head, body) = response.split_first_chunk::<HEAD_BYTES>()?;
    let code = u32::from_be_bytes([head[6], head[7], head[8], head[9]]);
    (stated_length(response) == response.len()).then_some((code, body))
}

/// What was not read yet of a response.
#[derive(Clone, Copy)]
pub(super) struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(slice)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.slice(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.slice(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Bytes after their length in 16 bits.
    pub(super) fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.slice(length.into())
    }

    /// The parameters of a response to a command with sessions: bytes after their length in 32 bits.
    pub(super) fn parameters(&mut self) -> Option<Self> {
        let length = self.u32()?.try_into().ok()?;
        self.slice(length).map(Self)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}
