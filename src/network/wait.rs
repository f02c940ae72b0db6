//! Parses how long a server asks its client to wait. Does not wait itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::http::HeaderMap;

/// The wait requested by `Retry-After` (seconds or a date) or by the hub's `RateLimit: "api";r=0;t=5`.
pub fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim());
    let after = |text: &str| match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => {
            // Relative to the server's clock, if it sends a date.
            let now = text_date(headers).unwrap_or_else(now);
            Some(Duration::from_secs(date(text)?.checked_sub(now)?))
        }
    };
    let limit =
        || text("ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t=")?.parse().ok());
    text("retry-after").and_then(after).or_else(|| limit().map(Duration::from_secs))
}

fn text_date(headers: &HeaderMap) -> Option<u64> {
    date(headers.get("date")?.to_str().ok()?)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Seconds since 1970 of a date such as `Fri, 31 Dec 1999 23:59:59 GMT` (RFC 9110, 5.6.7: the only form that servers
/// may send).
fn date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let rest = text.trim().strip_suffix(" GMT")?.split_once(", ")?.1;
    let mut parts = rest.split(' ');
    let day: u64 = parts.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let month = parts.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64;
    let year: u64 = parts.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut clock = parts.next()?.split(':').map(|part| part.parse::<u64>().ok().filter(|part| *part <= 60));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Days since 1 March of year 0, so that a leap day is the last day of its year.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days.checked_sub(719_468)?) * 86_400 + 3600 * hour + 60 * minute + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference: `date -u -d '...' +%s`.
    #[test]
    fn dates_are_seconds() {
        for (text, want) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", Some(946_684_799)),
            ("Tue, 29 Feb 2028 12:00:00 GMT", Some(1_835_438_400)),
            ("Sun, 29 Nov 2026 10:00:00 GMT", Some(1_795_946_400)),
            ("31 Dec 1999", None),
            ("Fri, 99 Dec 1999 23:59:59 GMT", None),
            ("", None),
        ] {
            assert_eq!(date(text), want, "{text}");
        }
    }

    #[test]
    fn a_wait_is_read_in_every_form() {
        let wait = |headers: &[(&'static str, &str)]| {
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            asked_wait(&HeaderMap::from_iter(headers))
        };
        assert_eq!(wait(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(wait(&[("retry-after", "0.25")]), Some(Duration::from_millis(250)));
        assert_eq!(wait(&[("ratelimit", "\"api\";r=0;t=54")]), Some(Duration::from_secs(54)));
        let date = ("date", "Fri, 31 Dec 1999 23:58:59 GMT");
        let after = ("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT");
        assert_eq!(wait(&[date, after]), Some(Duration::from_secs(60)));
        assert_eq!(wait(&[after]), None, "long ago");
        assert_eq!(wait(&[("retry-after", "-7")]), None);
        assert_eq!(wait(&[("retry-after", "soon"), ("other", "7")]), None);
    }
}
