//! Data producers that are piped to another process, and from there.

use std::sync::Arc;

use super::address::RouterAddress;
use super::data_consumer::{DataConsumer, DataConsumerOptions, DataConsumerParts};
use super::data_message::DataCounters;
use super::data_on_network::DataProducerOnNetwork;
use super::data_parameters::DataParameters;
use super::data_pipe::DataPipedTo;
use super::data_producer::{DataProducerState, DataSource};
use super::error::ObjectError;
use super::events::EventSink;
use super::id::{DataProducerId, TransportId};
use super::link_ends::{FromLink, MAX_LABEL, Named};
use super::remote_pipe::RemotePipeEvent;
use super::replica::Replica;
use super::router::RouterState;
use crate::network::DataOrigin;
use crate::pipe_link::{Message, PipedState};

/// How many data producers may be piped by one link.
const MAX_DATA_CONSUMERS: usize = 1_000;

/// A data producer of another process. Its network thread knows it already, since its messages may
/// follow at once.
#[derive(Debug)]
pub(crate) struct PipedDataProducer {
    /// What the other end calls it.
    pub(crate) name: u64,
    pub(crate) producer: DataProducerId,
    pub(crate) parameters: DataParameters,
    pub(crate) label: String,
    pub(crate) state: PipedState,
    pub(crate) counters: Arc<DataCounters>,
}

impl RouterState {
    pub(super) fn pipe_data_to_process(
        &mut self,
        link: TransportId,
        producer: DataProducerId,
        label: String,
        address: RouterAddress,
    ) -> Result<DataConsumer, ObjectError> {
        if label.len() > MAX_LABEL {
            return Err(ObjectError::TooMany(MAX_LABEL));
        }
        self.pipe_state(link)?;
        if let Some(parts) = self.find_data_pipe_consumer(link, producer) {
            return Ok(DataConsumer::new(parts, address));
        }
        if self.data_consumers_on(link) >= MAX_DATA_CONSUMERS {
            return Err(ObjectError::TooMany(MAX_DATA_CONSUMERS));
        }
        let source = self.data_producer(producer)?;
        let (paused, parameters) = (source.current().paused, source.parameters.clone());
        let name = self.pipe_state(link)?.names.give();
        let far_end = self.on_link(link, name)?;
        // Before any message can be: those go the same way.
        far_end.say(Message::CreateData {
            name,
            parameters: Box::new(DataParameters::clone(&parameters)),
            label,
            state: PipedState::of(paused),
        });
        let options = DataConsumerOptions::new();
        let parts = match self.consume_data_by(link, producer, options, Some(name)) {
            Ok(parts) => parts,
            Err(error) => {
                far_end.source_closed();
                return Err(error);
            }
        };
        self.data_consumer(parts.id)?.piped_to = Some(DataPipedTo::Process { far_end });
        Ok(DataConsumer::new(parts, address))
    }

    fn find_data_pipe_consumer(
        &mut self,
        link: TransportId,
        producer: DataProducerId,
    ) -> Option<DataConsumerParts> {
        let began_with = self.data_producer(producer).ok()?.current().paused.state;
        let (id, own) = self.data_consumers_mut().find(|(_, own)| {
            let piped_to = own.piped_to.as_ref();
            own.producer == producer && piped_to.is_some_and(|to| to.name_on(link).is_some())
        })?;
        Some(DataConsumerParts {
            id: *id,
            producer,
            parameters: own.parameters.clone(),
            began_with,
            messages: None,
            events: own.events.subscribe(),
        })
    }

    /// The other process has piped a data producer to here.
    pub(crate) fn data_from_process(&mut self, link: TransportId, created: PipedDataProducer) {
        let name = created.name;
        if let Err(error) = self.produce_data_from_process(link, created) {
            tracing::warn!(%error, "data that another process pipes is not taken");
            self.refuse_on_link(link, name, &error);
        }
    }

    fn produce_data_from_process(
        &mut self,
        link: TransportId,
        created: PipedDataProducer,
    ) -> Result<(), ObjectError> {
        let end = self.on_link(link, created.name)?;
        let id = created.producer;
        let place = &self.pipe_state(link)?.plain.on_network.place;
        let origin = DataOrigin {
            network: place.index,
            producer: id,
        };
        // However this ends without a data producer, it ends there.
        let on_network = DataProducerOnNetwork::new(place.network.clone(), origin);
        if created.label.len() > MAX_LABEL
            || self.pipe_state(link)?.names.find(created.name).is_some()
        {
            return Err(ObjectError::NotUnderstood);
        }
        created.parameters.check()?;
        self.check_data_producers()?;
        let source = DataSource::Process {
            _near: FromLink::new(end),
            paused: Replica::of(created.state.versioned()),
            on_network,
        };
        let state = DataProducerState::new(
            link,
            Arc::new(created.parameters),
            false,
            source,
            created.counters,
            EventSink::unheard(),
        );
        self.add_data_producer(id, state)?;
        let pipe = self.pipe_state(link)?;
        pipe.names.note(created.name, Named::DataProducer(id));
        pipe.events.send(RemotePipeEvent::ProducedData {
            producer: id,
            label: created.label.into(),
        });
        Ok(())
    }
}
