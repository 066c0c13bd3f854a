//! A message of a data channel, as it crosses a link: bytes, since there may be many of them, and large
//! ones.
//!
//! ```text
//! 0, name (64 bits), 0 for text or 1 for bytes, how many sub-channels (16 bits), these (16 bits each),
//! payload
//! ```

use crate::objects::{DataKind, DataMessage, MAX_MESSAGE_BYTES, MAX_SUB_CHANNELS};

/// No text begins with it.
const MARK: u8 = 0;
const HEADER: usize = 1 + 8 + 1 + 2;
/// The longest there is.
pub(super) const MAX_DATA_FRAME: usize = HEADER + 2 * MAX_SUB_CHANNELS + MAX_MESSAGE_BYTES;

pub(super) fn is_data(body: &[u8]) -> bool {
    body.first() == Some(&MARK)
}

pub(super) fn write(name: u64, message: &DataMessage) -> Vec<u8> {
    let sub_channels = message.sub_channels();
    let payload = message.payload();
    let mut body = Vec::with_capacity(HEADER + 2 * sub_channels.len() + payload.len());
    body.push(MARK);
    body.extend(name.to_be_bytes());
    body.push(match message.kind() {
        DataKind::Text => 0,
        DataKind::Binary => 1,
    });
    // A message that names more has been refused where it was sent.
    body.extend((sub_channels.len() as u16).to_be_bytes());
    body.extend(sub_channels.iter().flat_map(|own| own.to_be_bytes()));
    body.extend(payload);
    body
}

/// `None` if it is nothing that [`write()`] has written.
pub(super) fn read(body: &[u8]) -> Option<(u64, DataMessage)> {
    let (mark, rest) = body.split_first()?;
    let (name, rest) = rest.split_first_chunk()?;
    let (kind, rest) = rest.split_first()?;
    let (count, rest) = rest.split_first_chunk()?;
    let count = usize::from(u16::from_be_bytes(*count));
    let kind = match (mark, kind) {
        (&MARK, 0) => DataKind::Text,
        (&MARK, 1) => DataKind::Binary,
        _ => return None,
    };
    if count > MAX_SUB_CHANNELS {
        return None;
    }
    let (sub_channels, payload) = rest.split_at_checked(2 * count)?;
    if payload.len() > MAX_MESSAGE_BYTES {
        return None;
    }
    let (pairs, _) = sub_channels.as_chunks::<2>();
    let sub_channels: Vec<_> = pairs.iter().map(|own| u16::from_be_bytes(*own)).collect();
    let message = DataMessage::new(kind, payload.into()).on_sub_channels(&sub_channels);
    Some((u64::from_be_bytes(*name), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let messages = [
            DataMessage::text(""),
            DataMessage::text("hello").on_sub_channels(&[1, 65_535]),
            DataMessage::binary(vec![0; MAX_MESSAGE_BYTES]).on_sub_channels(&[7; MAX_SUB_CHANNELS]),
        ];
        for message in messages {
            let body = write(u64::MAX, &message);
            assert!(is_data(&body) && body.len() <= MAX_DATA_FRAME);
            assert_eq!(Some((u64::MAX, message)), read(&body));
        }
    }

    #[test]
    fn what_is_cut_off_or_too_large_is_not_read() {
        let body = write(7, &DataMessage::text("").on_sub_channels(&[1, 2]));
        for length in 0..body.len() {
            assert_eq!(None, read(&body[..length]), "{length}");
        }
        let mut unknown = body;
        unknown[9] = 2;
        assert_eq!(None, read(&unknown));
        let large = write(7, &DataMessage::binary(vec![0; MAX_MESSAGE_BYTES + 1]));
        assert_eq!(None, read(&large));
    }
}
