//! Layers on their way in from a client.

use tokio::io::AsyncWriteExt;

use super::broker::Session;
use super::layers::ReceiveError;
use crate::ids::Digest;
use crate::link::{ByteStream, write_value};
use crate::protocol::messages::{Fault, FaultCode, LayerResult};

/// Receives a layer and tells the client whether it arrived whole.
pub(crate) async fn receive(mut stream: ByteStream, session: &Session, layer: Digest, offset: u64) {
    let result: LayerResult = store(&mut stream, session, layer, offset).await;
    if let Err(fault) = &result {
        tracing::info!("layer {} was not received: {fault}", layer.short());
    }
    // A client that has gone meanwhile asks again what is missing when it comes back.
    if write_value(&mut stream, &result).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

async fn store(
    stream: &mut ByteStream,
    session: &Session,
    layer: Digest,
    offset: u64,
) -> Result<(), Fault> {
    let images = session.broker().images();
    let user = session.user();
    if images.has(user, layer).await? {
        return Ok(());
    }
    if !images.expects(user, layer).await? {
        let text = format!(
            "layer {} belongs to no image: describe one that has it first",
            layer.short()
        );
        return Err(Fault::new(FaultCode::NotFound, text));
    }
    let own = images.layers_of(user);
    let mut metered = images.limits().meter(user, stream).await?;
    let received = own.receive(layer, offset, &mut metered).await;
    if let Some(fault) = metered.fault() {
        // It would only take the room of other images.
        own.drop_parts();
        return Err(fault);
    }
    match received {
        Ok(_) => images.uploaded(user, layer).await,
        Err(error) => Err(fault(layer, &error)),
    }
}

fn fault(layer: Digest, error: &ReceiveError) -> Fault {
    let code = match error {
        ReceiveError::Damaged { .. } => FaultCode::BadImage,
        ReceiveError::WrongOffset { .. } => FaultCode::Malformed,
        ReceiveError::DiskFull => FaultCode::LimitReached,
        _ => FaultCode::Internal,
    };
    Fault::new(code, format!("layer {}: {error}", layer.short()))
}
