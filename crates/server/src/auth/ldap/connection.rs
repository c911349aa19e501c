//! A connection to a directory.

use std::{io, sync::Arc};

use anyhow::{Context, bail};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::wire::{self, Answer, MESSAGE_BYTES, Request};
use crate::config::Encryption;

/// The result codes that mean something here (RFC 4511, appendix A).
pub mod code {
    /// It worked.
    pub const SUCCESS: u32 = 0;
    /// There are more entries than asked for.
    pub const SIZE_LIMIT_EXCEEDED: u32 = 4;
    /// There is no such attribute.
    pub const NO_SUCH_ATTRIBUTE: u32 = 16;
    /// There is no such entry.
    pub const NO_SUCH_OBJECT: u32 = 32;
    /// The name is none.
    pub const INVALID_DN: u32 = 34;
    /// Who has this name cannot log in with a password.
    pub const INAPPROPRIATE_AUTHENTICATION: u32 = 48;
    /// Name or password are wrong.
    pub const INVALID_CREDENTIALS: u32 = 49;
}

/// How a directory is reached.
#[derive(Clone, Debug)]
pub struct Target {
    /// Servers, of which the first that can be reached is asked.
    pub servers: Vec<String>,
    /// Their port.
    pub port: u16,
    /// How connections are encrypted.
    pub encryption: Encryption,
    /// By whom servers are trusted.
    pub tls: Arc<ClientConfig>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for S {}

/// A connection to a server.
pub struct Connection {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    last_id: u32,
}

impl Connection {
    /// Connects to the first server that can be reached.
    ///
    /// # Errors
    /// If none can.
    pub async fn open(target: &Target) -> anyhow::Result<Self> {
        let mut problem = None;
        for server in &target.servers {
            match Self::open_to(server, target).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    tracing::debug!("LDAP server {server}: {error:#}");
                    problem = Some(error.context(format!("LDAP server {server}")));
                }
            }
        }
        Err(problem.unwrap_or_else(|| anyhow::anyhow!("auth.ldap.servers is empty")))
    }

    async fn open_to(server: &str, target: &Target) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((server, target.port)).await?;
        stream.set_nodelay(true)?;
        if target.encryption == Encryption::None {
            return Ok(Self::over(stream));
        }
        let stream = if target.encryption == Encryption::StartTls { Self::start_tls(stream).await? } else { stream };
        let name = ServerName::try_from(server.to_owned())?;
        let stream = TlsConnector::from(Arc::clone(&target.tls)).connect(name, stream).await.context("TLS")?;
        Ok(Self::over(stream))
    }

    fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), input: Vec::new(), last_id: 0 }
    }

    async fn start_tls(mut stream: TcpStream) -> anyhow::Result<TcpStream> {
        stream.write_all(&Request::StartTls.encode(1)).await?;
        let mut input = Vec::new();
        let (_, answer, len) = read(&mut stream, &mut input).await?;
        match answer {
            // What came before the encryption must not count as having come within it.
            Answer::Done { code: code::SUCCESS, .. } if len == input.len() => Ok(stream),
            answer => bail!("StartTLS is refused: {answer:?}"),
        }
    }

    async fn send(&mut self, request: &Request<'_>) -> anyhow::Result<u32> {
        self.last_id += 1;
        self.stream.write_all(&request.encode(self.last_id)).await?;
        self.stream.flush().await?;
        Ok(self.last_id)
    }

    /// The next message that answers a request.
    async fn answer(&mut self, id: u32) -> anyhow::Result<Answer> {
        loop {
            let (of, answer, len) = read(&mut self.stream, &mut self.input).await?;
            self.input.drain(..len);
            match of {
                of if of == id => return Ok(answer),
                // A notice of disconnection (section 4.4.1).
                0 => bail!("the server ends the connection: {answer:?}"),
                _ => {}
            }
        }
    }

    /// Says who asks. Returns whether the password is right.
    ///
    /// # Errors
    /// If the server cannot tell.
    pub async fn bind(&mut self, dn: &str, password: &[u8]) -> anyhow::Result<bool> {
        let id = self.send(&Request::Bind { dn, password }).await?;
        match self.answer(id).await? {
            Answer::Done { code: code::SUCCESS, .. } => Ok(true),
            Answer::Done {
                code:
                    code::INVALID_CREDENTIALS | code::NO_SUCH_OBJECT | code::INVALID_DN | code::INAPPROPRIATE_AUTHENTICATION,
                ..
            } => Ok(false),
            answer => bail!("bind: {answer:?}"),
        }
    }

    /// The names of up to two entries: at `base`, or with `is_deep` below it, and with a value of an attribute.
    ///
    /// # Errors
    /// If the server cannot tell.
    pub async fn search(
        &mut self,
        base: &str,
        is_deep: bool,
        equality: Option<(&str, &[u8])>,
    ) -> anyhow::Result<Vec<String>> {
        let id = self.send(&Request::Search { base, is_deep, equality, size_limit: 2 }).await?;
        let mut found = Vec::new();
        loop {
            match self.answer(id).await? {
                Answer::Entry(dn) => found.push(dn),
                Answer::Done { code: code::SUCCESS | code::SIZE_LIMIT_EXCEEDED, .. } => return Ok(found),
                Answer::Done { code: code::NO_SUCH_OBJECT | code::NO_SUCH_ATTRIBUTE | code::INVALID_DN, .. } => {
                    return Ok(Vec::new());
                }
                Answer::Done { code, message } => bail!("search: result {code} {message}"),
                Answer::Other => {}
            }
        }
    }

    /// Ends the connection in order.
    pub async fn close(mut self) {
        let _ = self.send(&Request::Unbind).await;
        let _ = self.stream.shutdown().await;
    }
}

/// The next message, of which `input` has the bytes.
async fn read(
    stream: &mut (impl AsyncRead + Unpin + ?Sized),
    input: &mut Vec<u8>,
) -> anyhow::Result<(u32, Answer, usize)> {
    loop {
        if let Some(message) = wire::read(input)? {
            return Ok(message);
        }
        if input.len() > 2 * MESSAGE_BYTES {
            bail!(wire::Malformed);
        }
        if stream.read_buf(input).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}
