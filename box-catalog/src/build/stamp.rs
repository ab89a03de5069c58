//! Versions that say when a box was built.

use crate::Version;

/// `YYYYMMDD.HHMMSS`, UTC, of a time in seconds since 1970.
pub fn version(time: u64) -> Version {
    let (days, seconds) = (time / 86_400, time % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let text = format!("{year:04}{month:02}{day:02}.{hour:02}{minute:02}{second:02}");
    Version::parse(&text).unwrap_or_else(|_| unreachable!("digits with a dot between are a version"))
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years are counted from
/// March, so that the leap day comes last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked against `date -u -d @SECONDS +%Y%m%d.%H%M%S`.
    #[test]
    fn versions_are_the_utc_time() {
        for (time, text) in [
            (0, "19700101.000000"),
            (951_782_400, "20000229.000000"),
            (951_868_799, "20000229.235959"),
            (1_709_251_199, "20240229.235959"),
            (1_795_447_342, "20261123.152222"),
            (4_107_542_400, "21000301.000000"),
        ] {
            assert_eq!(version(time).as_str(), text);
        }
        assert!(version(1_795_447_342) < version(1_795_447_343));
    }
}
