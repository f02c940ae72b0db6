//! Selects the proxy for a server from environment variables, with curl's rules. Opens no socket.

use std::fmt;
use std::net::IpAddr;

use ureq::Proxy;

use super::plain_http::{host, is_local};

/// A proxy and the environment variable that names it.
#[derive(Debug)]
pub struct Named {
    pub proxy: Proxy,
    variable: &'static str,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without user name and password.
        write!(f, "the proxy {}:{} of {}", self.proxy.host(), self.proxy.port(), self.variable)
    }
}

/// The proxy for `url`; `None`: a direct connection, as for every server on this machine.
///
/// # Errors
/// A variable holds no valid proxy address.
pub fn of(url: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Named>, String> {
    // `HTTP_PROXY` is ignored: in a CGI program it would hold a header that the client sent.
    let names: &[&str] = match url.split("://").next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "http" => &["http_proxy", "all_proxy", "ALL_PROXY"],
        _ => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
    };
    let named = names.iter().find_map(|name| Some((*name, variable(name)?)));
    let Some((name, address)) = named else { return Ok(None) };
    let without = variable("no_proxy").or_else(|| variable("NO_PROXY")).unwrap_or_default();
    if is_local(url) || is_excluded(host(url), port(url), &without) {
        return Ok(None);
    }
    let proxy = Proxy::new(address.trim()).map_err(|_| {
        format!(
            "the variable {name} holds no address of a proxy: it is written scheme://host:port, with http, https, socks4, \
             socks4a, socks5 or socks5h as the scheme"
        )
    })?;
    Ok(Some(Named { proxy, variable: name }))
}

/// The port of a URL, or the default port of its scheme.
fn port(url: &str) -> Option<u16> {
    let rest = super::origin(url).split("://").nth(1)?.rsplit('@').next()?;
    let written = rest.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    match written {
        Some((_, port)) => port.parse().ok(),
        None if url.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("https")) => Some(443),
        None => Some(80),
    }
}

/// Whether `list` (names and addresses, separated by commas or white space) contains `host`: by its name, a parent
/// domain, its address or an address range, each with an optional port.
fn is_excluded(host: &str, port: Option<u16>, list: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        let (name, only) = with_port(entry);
        if only.is_some() && only != port {
            return false;
        }
        let name = name.trim_start_matches('[').trim_end_matches(']');
        match address {
            Some(address) => in_range(address, name),
            None => {
                let name = name.strip_prefix('*').unwrap_or(name).trim_start_matches('.');
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                let parent = host.strip_suffix(&name);
                !name.is_empty() && parent.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        }
    })
}

/// An entry without its port, and the port.
fn with_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

/// Whether `range` (`10.0.0.0/8`, or a single address) contains `address`.
fn in_range(address: IpAddr, range: &str) -> bool {
    let (first, bits) = match range.split_once('/') {
        Some((first, bits)) => (first, bits.parse::<u32>().ok()),
        None => (range, Some(u32::MAX)),
    };
    let (Ok(first), Some(bits)) = (first.parse::<IpAddr>(), bits) else { return false };
    let same = |a: u128, b: u128, width: u32| {
        let free = width.saturating_sub(bits);
        free >= 128 || (a >> free) == (b >> free)
    };
    match (address, first) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let found = of(url, &|name| Some(variables.iter().find(|(n, _)| *n == name)?.1.to_string())).unwrap();
        found.map(|named| named.to_string())
    }

    /// The expected choices are those of curl 8.
    #[test]
    fn the_scheme_of_the_url_chooses_the_variable() {
        let all = [
            ("http_proxy", "http://a:1"),
            ("HTTP_PROXY", "http://b:2"),
            ("HTTPS_PROXY", "c:3"),
            ("ALL_PROXY", "socks5h://me:secret@d:4"),
        ];
        assert_eq!(chosen("http://far/x", &all).unwrap(), "the proxy a:1 of http_proxy");
        assert_eq!(chosen("https://far/x", &all).unwrap(), "the proxy c:3 of HTTPS_PROXY");
        assert_eq!(chosen("http://far/x", &all[1..]).unwrap(), "the proxy d:4 of ALL_PROXY");
        assert_eq!(chosen("http://far/x", &all[1..3]), None);
        assert_eq!(chosen("https://far/x", &all[..2]), None);
        let lower = [("https_proxy", "https://e"), ("HTTPS_PROXY", "http://c:3")];
        assert_eq!(chosen("HTTPS://far/x", &lower).unwrap(), "the proxy e:443 of https_proxy");
        for here in ["http://localhost:8000/", "http://127.0.0.1/", "http://[::1]:80/"] {
            assert_eq!(chosen(here, &all), None, "{here}");
        }
        let wrong = of("http://far", &|name| (name == "http_proxy").then(|| "ftp://me:secret@a".to_string()));
        let said = wrong.unwrap_err();
        assert!(said.contains("http_proxy") && !said.contains("secret"), "{said}");
    }

    #[test]
    fn hosts_are_excluded_by_name_domain_address_and_range() {
        let excluded = |url: &str, list: &str| is_excluded(host(url), port(url), list);
        for (url, list) in [
            ("http://gpu7/v1", "*"),
            ("http://gpu7/v1", "a, gpu7"),
            ("http://GPU7.Site.org:8000/v1", "site.org"),
            ("http://gpu7.site.org/v1", "a .site.org"),
            ("http://gpu7.site.org./v1", "*.site.org"),
            ("http://site.org/v1", ".site.org"),
            ("http://10.1.2.3/v1", "10.0.0.0/8"),
            ("http://10.1.2.3/v1", "172.16.0.0/12\t10.1.2.3"),
            ("http://[fd00::7]:8000/v1", "fd00::/8"),
            ("http://[fd00::7]:8000/v1", "[fd00::7]"),
            ("http://gpu7:8000/v1", "gpu7:8000"),
            ("https://gpu7/v1", "gpu7:443"),
            ("http://10.1.2.3:8000/", "10.1.2.3:8000"),
            ("http://10.1.2.3/", "0.0.0.0/0"),
        ] {
            assert!(excluded(url, list), "{url} {list}");
        }
        for (url, list) in [
            ("http://gpu7/v1", ""),
            ("http://gpu7/v1", "gpu"),
            ("http://mysite.org/v1", "site.org"),
            ("http://11.1.2.3/v1", "10.0.0.0/8"),
            ("http://10.1.2.3/v1", "10.1.2.3/33x, 1.2.3"),
            ("http://[fe00::7]:8000/v1", "fd00::/8 0.0.0.0/0"),
            ("http://gpu7:8000/v1", "gpu7:80"),
            ("http://gpu7/v1", ". , *."),
        ] {
            assert!(!excluded(url, list), "{url} {list}");
        }
    }
}
