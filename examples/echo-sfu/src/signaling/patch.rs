//! What a client says about ICE once its session is there: `PATCH`, in terms of WHIP.

use super::{SessionTransport, State};
use crate::ApiError;
use crate::names::{SessionToken, random_hex};
use crate::objects::IceRestart;
use crate::operation::ReplyTo;
use crate::sdp::Fragment;

/// What came of an SDP fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Patched {
    /// Its candidates were taken in.
    Trickled,
    /// It had new credentials: ICE was restarted. Whoever asks again with the same, for any entity tag,
    /// is told the same again.
    Restarted {
        /// Names this state of the session from now on, for `If-Match`; without quotes.
        entity_tag: String,
        /// Our own credentials and candidates, as an SDP fragment.
        fragment: String,
    },
}

impl State {
    pub(super) fn patch(
        &mut self,
        token: &SessionToken,
        if_match: Option<&str>,
        fragment: &str,
        reply: ReplyTo<Patched>,
    ) {
        match self.check_patch(token, if_match, fragment) {
            Ok(fragment) => {
                let is_for_any = if_match.is_some_and(names_any);
                self.apply_patch(token, fragment, is_for_any, reply);
            }
            Err(error) => reply.send(Err(error)),
        }
    }

    fn check_patch(
        &self,
        token: &SessionToken,
        if_match: Option<&str>,
        fragment: &str,
    ) -> Result<Fragment, ApiError> {
        let key = self.tokens.get(token);
        let session = key.and_then(|key| self.sessions.get(key));
        let session = session.ok_or(ApiError::UnknownSession)?;
        if if_match.is_some_and(|condition| !matches(condition, &session.entity_tag)) {
            return Err(ApiError::EntityTagMismatch);
        }
        let fragment = Fragment::parse(fragment)?;
        let is_restart = fragment.ufrag.is_some() && fragment.ufrag != session.remote_ufrag;
        if is_restart {
            // What was trickled before a restart, and comes after it, must not be taken for another.
            if if_match.is_none() {
                return Err(ApiError::NoEntityTag);
            }
            fragment.ice_credentials()?;
        }
        Ok(fragment)
    }

    fn apply_patch(
        &mut self,
        token: &SessionToken,
        fragment: Fragment,
        is_for_any: bool,
        reply: ReplyTo<Patched>,
    ) {
        let key = self.tokens.get(token);
        let session = key.and_then(|key| self.sessions.get_mut(key));
        let (Some(session), Some(own)) = (session, &self.own) else {
            return reply.send(Err(ApiError::UnknownSession));
        };
        let Some(SessionTransport::WebRtc(transport)) = &session.transport else {
            return reply.send(Err(ApiError::UnknownSession));
        };
        if fragment.ufrag.is_none() || fragment.ufrag == session.remote_ufrag {
            let restarts = fragment.ice_credentials().ok().filter(|_| is_for_any);
            let trickled = transport.trickle(fragment);
            // A client does not know the entity tag of a restart whose answer it has lost: it asks
            // with the same credentials for any, and is answered the same. Whatever else asks so
            // has restarted nothing, and trickles.
            if let Some(client) = restarts {
                let entity_tag = session.entity_tag.clone();
                let again = transport.repeat_ice_restart(client);
                return again.hand_to(own, move |_, outcome| {
                    let patched = |restart: Option<IceRestart>| match restart {
                        Some(IceRestart { fragment, .. }) => Patched::Restarted {
                            entity_tag,
                            fragment,
                        },
                        None => Patched::Trickled,
                    };
                    reply.send(outcome.map(patched).map_err(ApiError::from));
                });
            }
            return trickled.hand_to(own, move |_, outcome| {
                reply.send(outcome.map(|()| Patched::Trickled).map_err(ApiError::from));
            });
        }
        let client = match fragment.ice_credentials() {
            Ok(client) => client,
            Err(error) => return reply.send(Err(error)),
        };
        // Known at once, so that whatever is called next is judged by it.
        let entity_tag = random_hex::<8>();
        session.remote_ufrag = Some(client.ufrag().to_owned());
        session.entity_tag.clone_from(&entity_tag);
        let restarted = transport.restart_ice(client);
        drop(transport.trickle(fragment));
        restarted.hand_to(own, move |_, outcome| {
            let patched = |IceRestart { fragment, .. }| Patched::Restarted {
                entity_tag,
                fragment,
            };
            reply.send(outcome.map(patched).map_err(ApiError::from));
        });
    }
}

/// RFC 9110, section 13.1.1: a list of entity tags, compared strongly, or `*`; which RFC 9725 writes as
/// if it were an entity tag, and so do its clients.
pub(crate) fn matches(condition: &str, entity_tag: &str) -> bool {
    tags(condition).any(|tag| is_any(tag) || unquoted(tag) == Some(entity_tag))
}

/// Whether it is for any state of the session.
fn names_any(condition: &str) -> bool {
    tags(condition).any(is_any)
}

fn tags(condition: &str) -> impl Iterator<Item = &str> {
    condition.split(',').map(str::trim)
}

fn is_any(tag: &str) -> bool {
    tag == "*" || unquoted(tag) == Some("*")
}

fn unquoted(tag: &str) -> Option<&str> {
    tag.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::{matches, names_any};

    #[test]
    fn entity_tags_are_compared_strongly() {
        assert!(matches("\"abc\"", "abc"));
        assert!(matches("*", "abc"));
        assert!(matches("\"*\"", "abc"));
        assert!(matches("\"x\", \"abc\"", "abc"));
        assert!(!matches("W/\"abc\"", "abc"));
        assert!(!matches("W/\"*\"", "abc"));
        assert!(!matches("abc", "abc"));
        assert!(!matches("", "abc"));
        assert!(names_any("*") && names_any("\"x\", \"*\""));
        assert!(!names_any("\"abc\"") && !names_any("W/\"*\""));
    }
}
