//! Ways to a server: proxies of each kind, and certificates of an authority of the site's own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::server::{MODEL, Server};
use super::{fails, program, source, succeeds};
use crate::project::Project;

const VARIABLES: [&str; 13] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "EMOFLOW_PLAIN_HTTP",
];

/// `emoflow run` of stories from `url`, with these variables and no other of their kind.
fn write(url: &str, variables: &[(&str, &str)]) -> Output {
    let text = source(&format!(
        "[stories.far.openai]\nurl = \"{url}\"\nmodel = \"{MODEL}\"\npatience = 1\ntimeout = 20"
    ));
    let project = Project::new(&text);
    let mut program =
        program(&project, "run", &["--device", "cpu", "--only", "stories/*", "--progress", "plain"]);
    for name in VARIABLES {
        program.env_remove(name);
    }
    program.envs(variables.iter().copied()).output().unwrap()
}

/// A proxy that leads every request to one server, whatever it names, and notes what it was asked.
struct Proxy {
    at: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(server: &str, socks: bool) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy { at: listener.local_addr().unwrap().to_string(), asked: Arc::default() };
        let (asked, server) = (proxy.asked.clone(), server.trim_start_matches("http://").to_string());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (asked, server) = (asked.clone(), server.clone());
                std::thread::spawn(move || lead(client, &server, socks, &asked));
            }
        });
        proxy
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// Requests of one connection, one after the other.
fn lead(client: TcpStream, server: &str, socks: bool, asked: &Mutex<Vec<String>>) -> Option<()> {
    let note = |line: &str| asked.lock().unwrap().push(line.to_string());
    let mut from_client = BufReader::new(client.try_clone().unwrap());
    if socks {
        note(&greeted(&mut from_client, &client)?);
    }
    loop {
        let (head, body) = message(&mut from_client)?;
        let (request, headers) = head.split_once("\r\n")?;
        note(request);
        if request.starts_with("CONNECT ") {
            (&client).write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").ok()?;
            return None;
        }
        if let Some(line) =
            headers.lines().find(|line| line.to_lowercase().starts_with("proxy-authorization:"))
        {
            note(line);
        }
        let mut words = request.split(' ');
        let (method, url) = (words.next()?, words.next()?);
        let path = url.split_once("://").map_or(url, |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]);
        let upstream = TcpStream::connect(server).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\n{headers}");
        (&upstream).write_all(&[head.as_bytes(), &body].concat()).ok()?;
        let (head, body) = message(&mut BufReader::new(&upstream))?;
        (&client).write_all(&[head.as_bytes(), &body].concat()).ok()?;
    }
}

/// A message's head, with the empty line, and its body.
fn message(stream: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// The greeting of SOCKS 5 (RFC 1928), without a password: where it is to lead.
fn greeted(from: &mut impl Read, mut to: &TcpStream) -> Option<String> {
    let mut take = |count: usize| {
        let mut bytes = vec![0; count];
        from.read_exact(&mut bytes).ok().map(|()| bytes)
    };
    let methods = take(2)?[1].into();
    take(methods)?;
    to.write_all(&[5, 0]).ok()?;
    let kind = take(4)?[3];
    let host = match kind {
        3 => {
            let length = take(1)?[0].into();
            String::from_utf8(take(length)?).ok()?
        }
        _ => take(4)?.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
    };
    let port = take(2)?;
    to.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
    Some(format!("SOCKS {host}:{}", u16::from_be_bytes([port[0], port[1]])))
}

/// No such host: what comes comes through the proxy.
const FAR: &str = "http://gpu7.invalid:8000/v1";

#[test]
fn plain_http_goes_through_a_proxy_with_its_whole_address() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url, false);
    let at = format!("http://me:p%40ss@{}", proxy.at);
    succeeds(&write(FAR, &[("http_proxy", &at)]), "12 stories");
    let asked = proxy.asked();
    assert!(asked.len() >= 24, "{asked:?}");
    for line in asked {
        let expected = [
            "POST http://gpu7.invalid:8000/v1/chat/completions HTTP/1.1",
            "Proxy-Authorization: Basic bWU6cEBzcw==",
        ];
        assert!(expected.contains(&line.as_str()), "{line}");
    }
    // Curl's rules: the upper case is not heard of http, the other scheme's never, an excluded domain is asked itself.
    for variables in [
        [("HTTP_PROXY", at.as_str()), ("https_proxy", at.as_str())],
        [("http_proxy", at.as_str()), ("NO_PROXY", "10.0.0.0/8, .invalid")],
        [("ALL_PROXY", at.as_str()), ("no_proxy", "gpu7.invalid:8000")],
    ] {
        fails(&write(FAR, &variables), 1, &["no such host"]);
        assert_eq!(proxy.asked(), [""; 0], "{variables:?}");
    }
    // A server on this machine needs no way out.
    succeeds(&write(&format!("{}/v1", server.url), &[("http_proxy", &at)]), "12 stories");
    assert_eq!(proxy.asked(), [""; 0]);
}

#[test]
fn what_a_proxy_refuses_is_said_with_its_name() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url, false);
    let at = format!("http://me:secret@{}", proxy.at);
    let output = write("https://gpu7.invalid/v1", &[("HTTPS_PROXY", &at)]);
    fails(&output, 1, &["403", &format!("through the proxy {} of HTTPS_PROXY", proxy.at)]);
    let asked = proxy.asked();
    assert!(
        !asked.is_empty() && asked.iter().all(|line| line == "CONNECT gpu7.invalid:443 HTTP/1.1"),
        "{asked:?}"
    );
    assert!(!super::said(&output).contains("secret"));
    let output = write(FAR, &[("all_proxy", "carrier://me:secret@pigeon")]);
    fails(&output, 1, &["the variable all_proxy holds no address of a proxy"]);
    assert!(!super::said(&output).contains("secret"));
}

#[test]
fn socks_leads_by_name() {
    let server = Server::start();
    let proxy = Proxy::start(&server.url, true);
    succeeds(&write(FAR, &[("ALL_PROXY", &format!("socks5h://{}", proxy.at))]), "12 stories");
    let asked = proxy.asked();
    assert_eq!(asked[0], "SOCKS gpu7.invalid:8000");
    assert!(asked.iter().any(|line| line == "POST /v1/chat/completions HTTP/1.1"), "{asked:?}");
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

/// The server behind TLS, with a certificate of an authority that nobody knows.
fn encrypted(server: &Server) -> String {
    let certificates = CertificateDer::pem_file_iter(fixture("server.pem")).unwrap();
    let certificates = certificates.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(certificates, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let server = server.url.trim_start_matches("http://").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, server) = (config.clone(), server.clone());
            std::thread::spawn(move || -> Option<()> {
                let connection = rustls::ServerConnection::new(config).unwrap();
                let mut client = BufReader::new(rustls::StreamOwned::new(connection, stream));
                loop {
                    let (head, body) = message(&mut client)?;
                    let upstream = TcpStream::connect(&server).unwrap();
                    (&upstream).write_all(&[head.as_bytes(), &body].concat()).ok()?;
                    let (head, body) = message(&mut BufReader::new(&upstream))?;
                    client.get_mut().write_all(&[head.as_bytes(), &body].concat()).ok()?;
                    client.get_mut().flush().ok()?;
                }
            });
        }
    });
    url
}

#[test]
fn an_authority_that_a_variable_names_is_trusted() {
    let server = Server::start();
    let url = format!("{}/v1", encrypted(&server));
    let own = fixture("ca.pem").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(&own, folder.path().join("ca.pem")).unwrap();
    let folder = folder.path().display().to_string();
    let several = format!("/no/such:{folder}");
    for (name, value) in [
        ("SSL_CERT_FILE", &own),
        ("SSL_CERT_DIR", &several),
        ("REQUESTS_CA_BUNDLE", &own),
        ("REQUESTS_CA_BUNDLE", &folder),
        ("CURL_CA_BUNDLE", &own),
    ] {
        succeeds(&write(&url, &[(name, value)]), "12 stories");
    }
    // At once, and with what to do.
    fails(
        &write(&url, &[]),
        1,
        &["its certificate is signed by no authority that is known", "SSL_CERT_FILE"],
    );
    let another = fixture("server.pem").display().to_string();
    fails(&write(&url, &[("SSL_CERT_FILE", &another)]), 1, &[&format!("`{another}` (SSL_CERT_FILE)")]);
    fails(&write(&url, &[("CURL_CA_BUNDLE", "/no/such.pem")]), 1, &["CURL_CA_BUNDLE names `/no/such.pem`"]);
}
