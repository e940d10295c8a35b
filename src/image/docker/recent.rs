//! Which image is the most recent one.
//!
//! An image's creation date does not tell: reproducible builds set it to a fixed time long ago, and a pulled image was
//! created wherever it was built. What the daemon noted counts as well, and the latest of all decides:
//!
//! | what happened | creation date | `LastTagTime` | event kept by the daemon |
//! |---|---|---|---|
//! | `docker build`, `commit`, `import` | now, or fixed | now, if it is given a name | `tag`, `import` |
//! | `docker tag`, a build that changed nothing | as it was | now | `tag` |
//! | `docker pull` | as it was | now on some versions | `pull` |
//! | `docker load` | as it was | as it was | `load` |
//!
//! The daemon forgets events when it restarts, and all but the last 256. An image that was loaded before that and
//! claims an ancient creation date is taken for ancient. Between images that nothing tells apart, the daemon's own
//! order decides.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::query_parameters::{EventsOptions, ListImagesOptions};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Daemon, DockerError};
use crate::ids::Digest;

/// Images that are looked at at a time.
const AT_ONCE: usize = 16;

/// Events that bring an image up.
const EVENTS: [&str; 4] = ["load", "tag", "pull", "import"];

/// How long the daemon's events are waited for: it has them in memory.
const EVENTS_TIMEOUT: Duration = Duration::from_secs(2);

/// How far the daemon's clock may be ahead of ours before a date is taken for nonsense.
const CLOCK_TOLERANCE: Duration = Duration::from_hours(1);

/// Time since the epoch; zero for what is not known or lies before it.
type Instant = Duration;

/// The id of the image that was built, loaded, pulled or tagged last.
pub(super) async fn last_image(daemon: &Daemon) -> Result<Digest, DockerError> {
    let images = daemon
        .client
        .list_images(None::<ListImagesOptions>)
        .await
        .map_err(|error| daemon.error(error, "the list of images"))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let events = events(daemon, now).await;
    let dated: Vec<(Instant, String)> = stream::iter(images)
        .map(|image| {
            let created = Duration::from_secs(u64::try_from(image.created).unwrap_or_default());
            // Pulls are noted by name, all else by id.
            let names = image.repo_tags.iter().chain([&image.id]);
            let brought = names.filter_map(|name| events.get(name).copied());
            let brought = brought.max().unwrap_or_default();
            async move {
                let noted = noted(daemon, &image.id).await?;
                Ok::<_, DockerError>((latest(&[created, brought, noted], now), image.id))
            }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    // The first of those that are equally recent: the daemon lists the newest first.
    let newest = dated
        .into_iter()
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    let Some((_, id)) = newest else {
        return Err(DockerError::NoImages {
            address: daemon.address.clone(),
        });
    };
    id.parse().map_err(|error| DockerError::Answer {
        address: daemon.address.clone(),
        reason: format!("it lists an image whose id makes no sense: {error}"),
    })
}

fn latest(dates: &[Instant], now: Instant) -> Instant {
    dates
        .iter()
        .copied()
        .filter(|date| *date <= now + CLOCK_TOLERANCE)
        .max()
        .unwrap_or_default()
}

/// When the daemon noted the image to be tagged, or to be created to the nanosecond.
async fn noted(daemon: &Daemon, id: &str) -> Result<Instant, DockerError> {
    let inspected = match daemon.client.inspect_image(id).await {
        Ok(inspected) => inspected,
        Err(error) => {
            return match daemon.error(error, id) {
                // It has been removed since it was listed.
                DockerError::NotFound { .. } => Ok(Instant::ZERO),
                error => Err(error),
            };
        }
    };
    let tagged = inspected
        .metadata
        .and_then(|metadata| metadata.last_tag_time);
    let dates = [tagged, inspected.created].map(|date| date.as_deref().and_then(parse_date));
    Ok(dates.into_iter().flatten().max().unwrap_or_default())
}

/// When each image came up last, as far as the daemon remembers. A daemon that does not tell is no error: there are the
/// dates of its images.
async fn events(daemon: &Daemon, now: Instant) -> HashMap<String, Instant> {
    let filters = HashMap::from([
        ("type".to_owned(), vec!["image".to_owned()]),
        ("event".to_owned(), EVENTS.map(str::to_owned).to_vec()),
    ]);
    let options = EventsOptions {
        since: Some("0".to_owned()),
        // With an end, the daemon closes the stream instead of waiting for more; it would wait for one in the future.
        until: Some(format!("{}.{:09}", now.as_secs(), now.subsec_nanos())),
        filters: Some(filters),
    };
    let mut events = HashMap::new();
    let mut stream = std::pin::pin!(daemon.client.events(Some(options)));
    let collect = async {
        while let Some(Ok(event)) = stream.next().await {
            let id = event.actor.and_then(|actor| actor.id);
            let time = event
                .time_nano
                .and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
            if let (Some(id), Some(time)) = (id, time) {
                let last: &mut Instant = events.entry(id).or_default();
                *last = (*last).max(Duration::from_nanos(time));
            }
        }
    };
    if tokio::time::timeout(EVENTS_TIMEOUT, collect).await.is_err() {
        tracing::debug!("the Docker daemon did not end its list of events in time");
    }
    events
}

/// Reads a date of RFC 3339 (`2026-11-20T03:43:25.511089269Z`).
fn parse_date(text: &str) -> Option<Instant> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let at = |index: usize, expected: &[u8]| {
        text.as_bytes()
            .get(index)
            .is_some_and(|byte| expected.contains(byte))
    };
    if !(at(4, b"-") && at(7, b"-") && at(10, b"Tt ") && at(13, b":") && at(16, b":")) {
        return None;
    }
    let days = days_since_epoch(number(0..4)?, number(5..7)?, number(8..10)?)?;
    let seconds = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    let rest = text.get(19..)?;
    let digits = rest.strip_prefix('.').map_or(0, |rest| {
        rest.bytes().take_while(u8::is_ascii_digit).count()
    });
    let (fraction, zone) = if digits == 0 {
        ("", rest)
    } else {
        rest[1..].split_at(digits)
    };
    let nanoseconds: u32 = format!("{fraction:0<9.9}").parse().ok()?;
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), ..] if zone.len() == 6 => {
            let minutes =
                zone.get(1..3)?.parse::<i64>().ok()? * 60 + zone.get(4..6)?.parse::<i64>().ok()?;
            if *sign == b'+' {
                minutes * 60
            } else {
                -minutes * 60
            }
        }
        _ => return None,
    };
    let seconds = u64::try_from(days * 86_400 + seconds - offset).unwrap_or_default();
    Some(Duration::new(seconds, nanoseconds))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March have their leap day at their end, and months of a fixed pattern before it.
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // The epoch is 719,468 days after the first of March of year 0.
    Some(year * 365 + leap_days + day_of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_with_fractions_and_zones() {
        for (text, seconds, nanoseconds) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("1970-01-01T00:00:01.5Z", 1, 500_000_000),
            ("2000-02-29T00:00:00Z", 951_782_400, 0),
            ("2026-11-20T03:43:25.511089269Z", 1_795_146_205, 511_089_269),
            ("2026-11-20T04:43:25+01:00", 1_795_146_205, 0),
            ("2026-11-19T22:13:25.000000001-05:30", 1_795_146_205, 1),
            ("0001-01-01T00:00:00Z", 0, 0),
            ("1969-12-31T23:00:00Z", 0, 0),
        ] {
            assert_eq!(
                parse_date(text),
                Some(Duration::new(seconds, nanoseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "2026-11-20",
            "2026-11-20T03:43:25",
            "2026-11-20T03:43:25+1",
            "é026-11-20T03:43:25Z",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn dates_far_in_the_future_do_not_count() {
        let now = Duration::from_secs(1_000_000);
        let dates = [Duration::from_secs(5), Duration::from_secs(2_000_000)];
        assert_eq!(latest(&dates, now), Duration::from_secs(5));
    }
}
