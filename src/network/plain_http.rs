//! Decides to which servers keys may be sent: over https, to this machine, or to hosts that the user names. Does no I/O
//! over the network.

use std::net::IpAddr;

/// The environment variable with a comma-separated list of allowed hosts.
const ALLOWED: &str = "EMOFLOW_PLAIN_HTTP";

/// Why a key must not be sent to `url`, with a remedy; `None` if it may be sent.
pub fn refused(url: &str) -> Option<String> {
    refused_unless(url, &std::env::var(ALLOWED).unwrap_or_default())
}

fn refused_unless(url: &str, allowed: &str) -> Option<String> {
    let host = host(url);
    let plain = url.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("http://"));
    let named = allowed.split(',').any(|name| name.trim().eq_ignore_ascii_case(host));
    (plain && !named && !is_local(url)).then(|| {
        format!(
            "a key would go to `{host}` over plain http, where others can read it: use https, or allow it with the \
             environment variable {ALLOWED}={host}"
        )
    })
}

/// Whether `url` refers to this machine.
pub fn is_local(url: &str) -> bool {
    let host = host(url);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The host of a URL, without user name, password, port and brackets.
pub fn host(url: &str) -> &str {
    let authority =
        url.split("://").nth(1).unwrap_or_default().split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_over_plain_http_only_to_this_machine_and_to_hosts_that_are_named() {
        for url in
            ["https://api.example.org/v1", "http://localhost:8000/v1", "http://127.0.0.1", "http://[::1]:80"]
        {
            assert_eq!(refused_unless(url, ""), None, "{url}");
        }
        for url in
            ["http://gpu7:8000/v1", "HTTP://gpu7", "http://me:localhost@gpu7/v1", "http://localhost:80@gpu7"]
        {
            assert!(refused_unless(url, "gpu8").unwrap().contains("EMOFLOW_PLAIN_HTTP=gpu7"), "{url}");
            assert_eq!(refused_unless(url, "gpu8, gpu7"), None, "{url}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for url in
            ["http://localhost", "http://localhost:1/v1", "http://127.0.0.1:80", "http://[::1]:8000/v1"]
        {
            assert!(is_local(url), "{url}");
        }
        for url in ["http://localhost.evil/", "https://127.0.0.1.nip.io/v1", "http://[::2]/", "https://host"]
        {
            assert!(!is_local(url), "{url}");
        }
    }
}
