//! Trusted root certificates: those named by environment variables; else the system's; without a system store,
//! Mozilla's.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use ureq::tls::{Certificate, RootCerts};

use super::variable;

/// Variables of OpenSSL, `requests` and curl: files or folders. All that are set are used.
const VARIABLES: [&str; 4] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// A set of root certificates.
#[derive(Debug)]
pub struct Roots {
    pub certificates: RootCerts,
    /// Where they come from, for messages.
    pub named: String,
}

/// The root certificates according to the environment, read once.
///
/// # Errors
/// A variable names a file that is missing or holds no certificate.
pub fn roots() -> Result<&'static Roots, String> {
    static ROOTS: OnceLock<Result<Roots, String>> = OnceLock::new();
    ROOTS.get_or_init(|| read(&variable)).as_ref().map_err(Clone::clone)
}

fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Roots, String> {
    let mut certificates = Vec::new();
    let mut named = Vec::new();
    for name in VARIABLES {
        let Some(value) = variable(name) else { continue };
        // Only `SSL_CERT_DIR` may name several paths.
        let paths: Vec<PathBuf> = match name {
            "SSL_CERT_DIR" => std::env::split_paths(&value).collect(),
            _ => vec![PathBuf::from(value.trim())],
        };
        for path in paths {
            // Systems set it to folders that may not exist.
            if name == "SSL_CERT_DIR" && !path.is_dir() {
                continue;
            }
            let found = of(&path);
            let why = match found.errors.first() {
                Some(error) if found.certs.is_empty() => format!(": {error}"),
                _ => String::new(),
            };
            if found.certs.is_empty() && name != "SSL_CERT_DIR" {
                return Err(format!(
                    "the variable {name} names `{}`, which holds no certificate{why}",
                    path.display()
                ));
            }
            certificates.extend(found.certs);
            named.push(format!("`{}` ({name})", path.display()));
        }
    }
    if named.is_empty() {
        certificates = load_native_certs().certs;
        named.push("this system".to_string());
    }
    if certificates.is_empty() {
        return Ok(Roots { certificates: RootCerts::WebPki, named: "Mozilla's list".to_string() });
    }
    let certificates = certificates.iter().map(|der| Certificate::from_der(der).to_owned());
    Ok(Roots { certificates: certificates.into(), named: named.join(", ") })
}

fn of(path: &Path) -> CertificateResult {
    match path.is_dir() {
        true => load_certs_from_paths(None, Some(path)),
        false => load_certs_from_paths(Some(path), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_variables_name_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.pem");
        fs_err::write(&empty, "no certificate").unwrap();
        for (name, value) in [("SSL_CERT_FILE", "/no/such.pem"), ("CURL_CA_BUNDLE", empty.to_str().unwrap())]
        {
            let said = read(&|asked| (asked == name).then(|| value.to_string())).unwrap_err();
            assert!(said.contains(name) && said.contains(value), "{said}");
        }
        // A missing folder, as some systems name it, is skipped.
        let none = read(&|asked| (asked == "SSL_CERT_DIR").then(|| "/no/such".to_string())).unwrap();
        assert!(!none.named.contains("/no/such"), "{none:?}");
    }
}
