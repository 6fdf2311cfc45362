//! Which function answers which operation.

use std::future::Future;
use std::pin::Pin;

use crate::call::Call;
use crate::error::Reply;
use crate::handlers::{
    archive, attach, build, build_cache, buildkit, changes, containers, events, execs, fsck,
    images, logs, networks, observe, registry, save, system, transfer, update, usage, volumes,
    websocket,
};

pub(super) type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Reply> + Send>>;

/// The function for an operation; none for those that are answered by sentence alone.
#[rustfmt::skip]
pub(super) fn handler(id: &str) -> Option<Handler> {
    let handler: Handler = match id {
        "SystemPing" | "SystemPingHead" => |call| Box::pin(system::ping(call)),
        "SystemVersion" => |call| Box::pin(system::version(call)),
        "SystemInfo" => |call| Box::pin(system::info(call)),
        "SystemAuth" => |call| Box::pin(system::authenticate(call)),
        "SystemEvents" => |call| Box::pin(events::stream(call)),
        "HoistFsck" => |call| Box::pin(fsck::check(call)),
        "HoistNetworkExplain" => |call| Box::pin(networks::explain(call)),
        "HoistStopAll" => |call| Box::pin(system::stop_all(call)),
        "PluginList" => |call| Box::pin(system::plugins(call)),

        "ContainerList" => |call| Box::pin(containers::list(call)),
        "ContainerCreate" => |call| Box::pin(containers::create(call)),
        "ContainerInspect" => |call| Box::pin(containers::inspect(call)),
        "ContainerStart" => |call| Box::pin(containers::start(call)),
        "ContainerStop" => |call| Box::pin(containers::stop(call)),
        "ContainerRestart" => |call| Box::pin(containers::restart(call)),
        "ContainerKill" => |call| Box::pin(containers::kill(call)),
        "ContainerPause" => |call| Box::pin(containers::pause(call)),
        "ContainerUnpause" => |call| Box::pin(containers::unpause(call)),
        "ContainerRename" => |call| Box::pin(containers::rename(call)),
        "ContainerDelete" => |call| Box::pin(containers::remove(call)),
        "ContainerWait" => |call| Box::pin(containers::wait(call)),
        "ContainerResize" => |call| Box::pin(containers::resize(call)),
        "ContainerAttach" => |call| Box::pin(attach::attach(call)),
        "ContainerPrune" => |call| Box::pin(containers::prune(call)),
        "ContainerTop" => |call| Box::pin(observe::processes(call)),
        "ContainerStats" => |call| Box::pin(observe::usage(call)),
        "ContainerUpdate" => |call| Box::pin(update::update(call)),
        "ContainerAttachWebsocket" => |call| Box::pin(websocket::attach(call)),
        "ContainerLogs" => |call| Box::pin(logs::logs(call)),

        "ContainerChanges" => |call| Box::pin(changes::list(call)),
        "ContainerExport" => |call| Box::pin(changes::export(call)),
        "ImageCommit" => |call| Box::pin(changes::commit(call)),
        "ContainerArchiveInfo" => |call| Box::pin(archive::stat(call)),
        "ContainerArchive" => |call| Box::pin(archive::read(call)),
        "PutContainerArchive" => |call| Box::pin(archive::write(call)),

        "ContainerExec" => |call| Box::pin(execs::create(call)),
        "ExecStart" => |call| Box::pin(execs::start(call)),
        "ExecResize" => |call| Box::pin(execs::resize(call)),
        "ExecInspect" => |call| Box::pin(execs::inspect(call)),

        "ImageBuild" => |call| {
            if call.query.get("version") == Some("2") {
                return Box::pin(buildkit::build(call));
            }
            Box::pin(build::build(call))
        },
        "HoistBuild" => |call| Box::pin(build::build_own(call)),
        "HoistBuildContextHead" => |call| Box::pin(build::has_context(call)),
        "HoistBuildContextPut" => |call| Box::pin(build::put_context(call)),
        "ImageList" => |call| Box::pin(images::list(call)),
        "ImageInspect" => |call| Box::pin(images::inspect(call)),
        "ImageAttestations" => |call| Box::pin(images::attestations(call)),
        "ImageHistory" => |call| Box::pin(images::history(call)),
        "ImagePrune" => |call| Box::pin(images::prune(call)),
        "ImageGet" | "ImageGetAll" => |call| Box::pin(save::save(call)),
        "SystemDataUsage" => |call| Box::pin(usage::usage(call)),
        "ImageSearch" => |call| Box::pin(registry::search(call)),
        "DistributionInspect" => |call| Box::pin(registry::distribution(call)),
        "ImageTag" => |call| Box::pin(images::tag(call)),
        "ImageDelete" => |call| Box::pin(images::remove(call)),
        "ImageCreate" => |call| Box::pin(transfer::create(call)),
        "ImagePush" => |call| Box::pin(transfer::push(call)),
        "ImageLoad" => |call| Box::pin(transfer::load(call)),

        "VolumeList" => |call| Box::pin(volumes::list(call)),
        "VolumeCreate" => |call| Box::pin(volumes::create(call)),
        "VolumeInspect" => |call| Box::pin(volumes::inspect(call)),
        "VolumeUpdate" => |call| Box::pin(volumes::update(call)),
        "VolumeDelete" => |call| Box::pin(volumes::remove(call)),
        "VolumePrune" => |call| Box::pin(volumes::prune(call)),

        "NetworkList" => |call| Box::pin(networks::list(call)),
        "NetworkCreate" => |call| Box::pin(networks::create(call)),
        "NetworkDelete" => |call| Box::pin(networks::remove(call)),
        "NetworkConnect" => |call| Box::pin(networks::connect(call)),
        "NetworkDisconnect" => |call| Box::pin(networks::disconnect(call)),
        "NetworkPrune" => |call| Box::pin(networks::prune(call)),
        "Session" => |call| Box::pin(buildkit::session(call)),
        "BuildKit" => |call| Box::pin(buildkit::grpc(call)),
        "BuildPrune" => |call| Box::pin(build_cache::prune(call)),
        "NetworkInspect" => |call| Box::pin(networks::inspect(call)),
        _ => return None,
    };
    Some(handler)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::{OPERATIONS, Support};

    #[test]
    fn the_table_and_the_functions_agree() {
        for operation in OPERATIONS {
            let served = matches!(operation.support, Support::Served | Support::Partly(_));
            let expected = served || matches!(operation.id, "PluginList" | "VolumeUpdate");
            assert_eq!(
                handler(operation.id).is_some(),
                expected,
                "{}",
                operation.id
            );
        }
    }
}
