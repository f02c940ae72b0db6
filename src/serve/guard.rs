//! Access control: requests need the token, and requests from pages of other sites are rejected. Independent of the
//! served paths, except for `/v1`.

use anyhow::{Context, Result};

use super::http::{Refused, Request};

/// A random access token of 128 bits.
///
/// # Errors
/// The system provides no random numbers.
pub fn token() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(anyhow::Error::msg).context("draw a token")?;
    Ok(hex::encode(bytes))
}

/// The path of `request` without the token. The token is the first component of the path; below `/v1` it may instead be
/// the client's API key.
///
/// `Host` must name this machine, which rejects DNS rebinding: there it holds the attacker's name. The port may differ,
/// as with a tunnel. `Origin`, which browsers send with requests of a page, must be this address.
pub fn admit(request: &Request, token: &str) -> Result<String, Refused> {
    let host = request.header("host")?.unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| match port.parse::<u16>() {
        Ok(_) => name,
        Err(_) => host,
    });
    if !["127.0.0.1", "localhost", "[::1]"].contains(&name) {
        return Err(Refused::new(403, "the header `Host` must name this machine: 127.0.0.1 or localhost"));
    }
    if let Some(origin) = request.header("origin")?
        && origin != format!("http://{host}")
    {
        return Err(Refused::new(403, "requests from pages of other sites are refused (`Origin`)"));
    }
    let path = request.path.strip_prefix('/').unwrap_or(&request.path);
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    if same(first, token) {
        return Ok(rest.to_string());
    }
    let key = request.header("authorization")?.and_then(|value| value.strip_prefix("Bearer "));
    if first == "v1" && key.is_some_and(|key| same(key.trim(), token)) {
        return Ok(path.to_string());
    }
    Err(Refused::new(403, "the address must begin with the token that `emoflow serve` printed"))
}

/// Constant-time comparison.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ() {
        let (one, other) = (token().unwrap(), token().unwrap());
        assert!(one.len() == 32 && one != other);
        assert!(same(&one, &one) && !same(&one, &other) && !same(&one[..31], &one));
    }
}
