//! From when until when a certificate is valid: the one thing about our own certificate that rustls
//! does not look at, and that operators forget.

/// From when until when a certificate is valid, in seconds since 1970, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from_s: i64,
    /// The last second.
    pub until_s: i64,
}

/// Certificates are renewed weeks before they expire; one that is not, will be forgotten.
const SOON_S: i64 = 7 * DAY_S;
const DAY_S: i64 = 86_400;

impl Validity {
    /// What clients will find, or soon find, wrong at the time `now_s`.
    #[must_use]
    pub fn fault_at(&self, now_s: i64) -> Option<String> {
        if now_s < self.from_s {
            return Some(format!("is not valid before {}", date(self.from_s)));
        }
        if now_s > self.until_s {
            return Some(format!("has expired on {}", date(self.until_s)));
        }
        (self.until_s - now_s < SOON_S).then(|| format!("expires on {}", date(self.until_s)))
    }
}

/// The validity in an X.509 certificate; none if it is not one.
pub(super) fn validity(certificate: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = element(fields, tag)?;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (from_s, rest) = time(validity)?;
    let (until_s, _) = time(rest)?;
    Some(Validity { from_s, until_s })
}

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, left out where the version is 1.
const VERSION: u8 = 0xa0;

/// The content of a DER element, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        len @ ..0x80 => (usize::from(*len), rest),
        long => {
            let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let fits = (1..=4).contains(&bytes.len());
            let len = bytes.iter().fold(0, |len, byte| (len << 8) | usize::from(*byte));
            (fits.then_some(len)?, rest)
        }
    };
    (*found == tag).then(|| rest.split_at_checked(len))?
}

/// `YYMMDDhhmmssZ`, or from 2050 on `YYYYMMDDhhmmssZ` (RFC 5280, 4.1.2.5); and what follows it.
fn time(der: &[u8]) -> Option<(i64, &[u8])> {
    let short = element(der, UTC_TIME);
    let (text, rest) = short.or_else(|| element(der, GENERALIZED_TIME))?;
    let mut digits = std::str::from_utf8(text.strip_suffix(b"Z")?).ok()?;
    let mut number = |len: usize| {
        let (number, rest) = digits.split_at_checked(len)?;
        digits = rest;
        number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse::<i64>().ok())?
    };
    let year = match short {
        Some(_) => number(2).map(|year| if year < 50 { 2000 + year } else { 1900 + year }),
        None => number(4),
    }?;
    let days = days(year, number(2)?, number(2)?);
    let seconds = (number(2)? * 60 + number(2)?) * 60 + number(2)?;
    digits.is_empty().then_some((days * DAY_S + seconds, rest))
}

/// Days from 1970-01-01. The year is counted from March, so that the odd day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days before 1970-01-01 was the first of March of year 0.
    year * 365 + leap + (month * 153 + 2) / 5 + day - 1 - 719_468
}

/// `YYYY-MM-DD` of a time.
fn date(time_s: i64) -> String {
    let wanted = time_s.div_euclid(DAY_S);
    // An estimate that is a day off at most around New Year, and the steps from there.
    let mut year = 1970 + wanted.div_euclid(366);
    while days(year + 1, 1, 1) <= wanted {
        year += 1;
    }
    let month = (1..=12).rev().find(|month| days(year, *month, 1) <= wanted).unwrap_or(1);
    format!("{year:04}-{month:02}-{:02}", wanted - days(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (year, month, day, count) in [
            (1970, 1, 1, 0),
            (1970, 12, 31, 364),
            (1972, 2, 29, 789),
            (2000, 3, 1, 11_017),
            (2025, 11, 21, 20_413),
            (2049, 12, 31, 29_219),
        ] {
            assert_eq!(days(year, month, day), count);
            assert_eq!(date(count * DAY_S), format!("{year}-{month:02}-{day:02}"));
            assert_eq!(date(count * DAY_S + DAY_S - 1), format!("{year}-{month:02}-{day:02}"));
        }
    }

    #[test]
    fn both_forms_of_a_time_are_read() {
        let utc = [&[UTC_TIME, 13], b"251121070000Z".as_slice()].concat();
        assert_eq!(time(&utc), Some((20_413 * DAY_S + 7 * 3600, [].as_slice())));
        let general = [&[GENERALIZED_TIME, 15], b"20500101000000Z".as_slice()].concat();
        assert_eq!(time(&general), Some((29_220 * DAY_S, [].as_slice())));
        for broken in [b"2511210700Z".as_slice(), b"25112107000+Z", b"2511210700000"] {
            let len = u8::try_from(broken.len()).unwrap();
            assert_eq!(time(&[&[UTC_TIME, len], broken].concat()), None);
        }
    }

    #[test]
    fn a_certificate_cut_anywhere_is_none() {
        let made = rcgen::generate_simple_self_signed(["here".to_owned()]).unwrap();
        let der: &[u8] = made.cert.der();
        // What rcgen writes by default.
        let whole = validity(der).unwrap();
        assert_eq!(
            (date(whole.from_s), date(whole.until_s)),
            ("1975-01-01".into(), "4096-01-01".into())
        );
        for end in 0..der.len() {
            assert_eq!(validity(&der[..end]), None, "{end}");
        }
    }

    #[test]
    fn faults_are_told_in_time() {
        let validity = Validity { from_s: 100 * DAY_S, until_s: 200 * DAY_S };
        let fault = |day: i64| validity.fault_at(day * DAY_S).unwrap_or_default();
        assert_eq!(fault(99), "is not valid before 1970-04-11");
        assert_eq!(fault(100), "");
        assert_eq!(fault(193), "");
        assert_eq!(fault(194), "expires on 1970-07-20");
        assert_eq!(fault(201), "has expired on 1970-07-20");
    }
}
