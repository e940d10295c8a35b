//! Layers on their way in from a client.

use tokio::io::AsyncWriteExt;

use super::broker::Session;
use super::layers::ReceiveError;
use crate::ids::Digest;
use crate::link::{ByteStream, write_value};
use crate::protocol::messages::{Fault, FaultCode, LayerResult};

/// Receives a layer and tells the client whether it arrived whole.
pub(crate) async fn receive(mut stream: ByteStream, session: &Session, layer: Digest, offset: u64) {
    let images = session.broker().images();
    let user = session.user();
    let result: LayerResult = match images.has(user, layer).await {
        Ok(true) => Ok(()),
        Ok(false) => {
            let store = images.layers_of(user);
            match store.receive(layer, offset, &mut stream).await {
                Ok(_) => images.uploaded(user, layer).await,
                Err(error) => Err(fault(layer, &error)),
            }
        }
        Err(fault) => Err(fault),
    };
    if let Err(fault) = &result {
        tracing::info!("layer {} was not received: {fault}", layer.short());
    }
    // A client that has gone meanwhile asks again what is missing when it comes back.
    if write_value(&mut stream, &result).await.is_ok() {
        let _ = stream.shutdown().await;
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
