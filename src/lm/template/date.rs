//! A calendar date, formatted like C's `strftime`. Does not depend on a clock, a time zone or any language but
//! English.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A date of the Gregorian calendar, in the years 1000 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    year: i64,
    /// From 1.
    month: i64,
    /// From 1.
    day: i64,
}

impl Date {
    /// 26 July 2024: the fallback of Llama 3.2's template without a clock.
    pub const DEFAULT: Date = Date { year: 2024, month: 7, day: 26 };

    /// The date at midnight, formatted as by Python's `datetime.strftime` in the C locale on Linux, with glibc's flags
    /// `-`, `_`, `0` and `^`.
    ///
    /// # Errors
    /// A directive that is invalid, or that needs more than a date.
    pub fn strftime(&self, format: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut flag = None;
            let mut directive = chars.next();
            if let Some(c @ ('-' | '_' | '0' | '^')) = directive {
                flag = Some(c);
                directive = chars.next();
            }
            let directive = directive.ok_or("strftime_now: the format ends in %")?;
            let field = self.field(directive)?;
            out.push_str(&field.show(flag));
        }
        Ok(out)
    }

    fn field(&self, directive: char) -> Result<Field, String> {
        let (weekday, day_of_year) = (self.weekday(), self.day_of_year());
        let number = |value, width| Field::Number { value, width, pad: '0' };
        let spaced = |value| Field::Number { value, width: 2, pad: ' ' };
        let text = |text: &str| Field::Text(text.to_string());
        let (day_name, month_name) = (DAYS[weekday as usize], MONTHS[self.month as usize - 1]);
        Ok(match directive {
            'a' => text(&day_name[..3]),
            'A' => text(day_name),
            'b' | 'h' => text(&month_name[..3]),
            'B' => text(month_name),
            'c' => Field::Text(self.strftime("%a %b %e %T %Y")?),
            'C' => number(self.year / 100, 2),
            'd' => number(self.day, 2),
            'D' | 'x' => Field::Text(self.strftime("%m/%d/%y")?),
            'e' => spaced(self.day),
            'f' => text("000000"),
            'F' => Field::Text(self.strftime("%Y-%m-%d")?),
            'g' => number(self.iso_week().0 % 100, 2),
            'G' => number(self.iso_week().0, 4),
            'H' | 'M' | 'S' => number(0, 2),
            'I' => number(12, 2),
            'j' => number(day_of_year, 3),
            'k' => spaced(0),
            'l' => spaced(12),
            'm' => number(self.month, 2),
            'n' => text("\n"),
            'p' => text("AM"),
            'P' => text("am"),
            'r' => text("12:00:00 AM"),
            'R' => text("00:00"),
            't' => text("\t"),
            'T' | 'X' => text("00:00:00"),
            'u' => number(weekday + 1, 1),
            'U' => number((day_of_year + 6 - (weekday + 1) % 7) / 7, 2),
            'V' => number(self.iso_week().1, 2),
            'w' => number((weekday + 1) % 7, 1),
            'W' => number((day_of_year + 6 - weekday) / 7, 2),
            'y' => number(self.year % 100, 2),
            'Y' => number(self.year, 4),
            // A date without a time zone.
            'z' | 'Z' => text(""),
            '%' => text("%"),
            other => return Err(format!("strftime_now: %{other} is not supported")),
        })
    }

    /// From 1.
    fn day_of_year(&self) -> i64 {
        (1..self.month).map(|month| days_in(self.year, month)).sum::<i64>() + self.day
    }

    /// From 0, Monday.
    fn weekday(&self) -> i64 {
        let before = self.year - 1;
        // 1 January of the year 1 was a Monday.
        (before * 365 + before / 4 - before / 100 + before / 400 + self.day_of_year() - 1) % 7
    }

    /// The year and week of ISO 8601: the first week of a year is the one with its first Thursday.
    fn iso_week(&self) -> (i64, i64) {
        let week = (self.day_of_year() - (self.weekday() + 1) + 10) / 7;
        if week < 1 {
            (self.year - 1, iso_weeks(self.year - 1))
        } else if week > iso_weeks(self.year) {
            (self.year + 1, 1)
        } else {
            (self.year, week)
        }
    }
}

/// The value of a directive.
enum Field {
    Number { value: i64, width: usize, pad: char },
    Text(String),
}

impl Field {
    fn show(self, flag: Option<char>) -> String {
        match (self, flag) {
            (Field::Text(text), Some('^')) => text.to_uppercase(),
            (Field::Text(text), _) => text,
            (Field::Number { value, .. }, Some('-')) => value.to_string(),
            (Field::Number { value, width, pad }, flag) => {
                let pad = match flag {
                    Some('_') => ' ',
                    Some('0') => '0',
                    _ => pad,
                };
                if pad == '0' { format!("{value:0width$}") } else { format!("{value:width$}") }
            }
        }
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A year has 53 weeks if it ends on a Thursday, or if the previous year ends on a Wednesday.
fn iso_weeks(year: i64) -> i64 {
    let last_day = |year: i64| (year + year / 4 - year / 100 + year / 400) % 7;
    if last_day(year) == 4 || last_day(year - 1) == 3 { 53 } else { 52 }
}

impl FromStr for Date {
    type Err = ();

    /// Accepts `2024-07-26` and no other format.
    fn from_str(text: &str) -> Result<Date, ()> {
        let digits = |range: std::ops::Range<usize>| -> Result<i64, ()> {
            let part = text.get(range).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
            part.ok_or(())?.parse().map_err(|_| ())
        };
        let date = Date { year: digits(0..4)?, month: digits(5..7)?, day: digits(8..10)? };
        let real = (1000..=9999).contains(&date.year)
            && (1..=12).contains(&date.month)
            && (1..=days_in(date.year, date.month)).contains(&date.day);
        if real && text == date.to_string() { Ok(date) } else { Err(()) }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_days_that_there_are() {
        for real in ["2024-07-26", "2024-02-29", "2000-02-29", "1000-01-01", "9999-12-31"] {
            assert_eq!(real.parse::<Date>().unwrap().to_string(), real);
        }
        for none in [
            "2023-02-29",
            "1900-02-29",
            "2024-13-01",
            "2024-00-10",
            "2024-01-00",
            "2024-04-31",
            "0999-01-01",
            "2024-7-26",
            "2024-07-26 ",
            "26.07.2024",
            "2024-07-2é",
            "+024-07-26",
            "",
        ] {
            assert!(none.parse::<Date>().is_err(), "{none}");
        }
        assert_eq!(Date::DEFAULT.to_string(), "2024-07-26");
    }

    #[test]
    fn days_are_written_as_python_writes_them() {
        // Python: datetime.datetime(...).strftime("%a %A %b %B %j %U %W %G-%V %u %w %g %y %e")
        let format = "%a %A %b %B %j %U %W %G-%V %u %w %g %y %e";
        for (day, want) in [
            ("2024-07-26", "Fri Friday Jul July 208 29 30 2024-30 5 5 24 24 26"),
            ("2021-01-03", "Sun Sunday Jan January 003 01 00 2020-53 7 0 20 21  3"),
            ("2024-12-30", "Mon Monday Dec December 365 52 53 2025-01 1 1 25 24 30"),
            ("2000-02-29", "Tue Tuesday Feb February 060 09 09 2000-09 2 2 00 00 29"),
            ("1999-12-31", "Fri Friday Dec December 365 52 52 1999-52 5 5 99 99 31"),
        ] {
            assert_eq!(day.parse::<Date>().unwrap().strftime(format).unwrap(), want, "{day}");
        }
        assert!(Date::DEFAULT.strftime("%Q").unwrap_err().contains("%Q"));
        assert!(Date::DEFAULT.strftime("50%").is_err());
    }
}
