//! Every operation of the Engine API and how Hoist answers it; `docs/compatibility.md` is checked against this.
//!
//! Source: Docker Engine API 1.55, `paths` (the order is the document's). Undocumented operations of Docker's own
//! daemon that clients use stand at the end.

/// How an operation is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Wholly.
    Served,
    /// Except for what the sentence says.
    Partly(&'static str),
    /// As an engine without that subsystem answers, so that clients that merely ask go on; the sentence says how.
    Answered(&'static str),
    /// With 501 and a message made of this: what is missing.
    Absent(&'static str),
}

/// One operation: a method and a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The `operationId` of the API document.
    pub id: &'static str,
    /// `GET`, `HEAD`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// The path without its version, parameters in braces. `{name}` may contain slashes, `{id}` may not.
    pub path: &'static str,
    /// How it is answered.
    pub support: Support,
}

const SERVED: Support = Support::Served;
const PLUGINS: &str = "there are no plugins: the list is empty, any one is 404";
const SWARM: &str = "not part of a swarm: 503 with Docker's sentence";

const fn absent(what: &'static str) -> Support {
    Support::Absent(what)
}

const fn partly(gap: &'static str) -> Support {
    Support::Partly(gap)
}

const fn operation(
    id: &'static str,
    method: &'static str,
    path: &'static str,
    support: Support,
) -> Operation {
    Operation {
        id,
        method,
        path,
        support,
    }
}

/// The table.
#[rustfmt::skip]
pub const OPERATIONS: &[Operation] = &[
    operation("ContainerList", "GET", "/containers/json", SERVED),
    operation("ContainerCreate", "POST", "/containers/create", partly("501 for log drivers beyond json-file, local and none")),
    operation("ContainerInspect", "GET", "/containers/{id}/json", SERVED),
    operation("ContainerTop", "GET", "/containers/{id}/top", SERVED),
    operation("ContainerLogs", "GET", "/containers/{id}/logs", SERVED),
    operation("ContainerChanges", "GET", "/containers/{id}/changes", SERVED),
    operation("ContainerExport", "GET", "/containers/{id}/export", SERVED),
    operation("ContainerStats", "GET", "/containers/{id}/stats", SERVED),
    operation("ContainerResize", "POST", "/containers/{id}/resize", SERVED),
    operation("ContainerStart", "POST", "/containers/{id}/start", SERVED),
    operation("ContainerStop", "POST", "/containers/{id}/stop", SERVED),
    operation("ContainerRestart", "POST", "/containers/{id}/restart", SERVED),
    operation("ContainerKill", "POST", "/containers/{id}/kill", SERVED),
    operation("ContainerUpdate", "POST", "/containers/{id}/update", SERVED),
    operation("ContainerRename", "POST", "/containers/{id}/rename", SERVED),
    operation("ContainerPause", "POST", "/containers/{id}/pause", SERVED),
    operation("ContainerUnpause", "POST", "/containers/{id}/unpause", SERVED),
    operation("ContainerAttach", "POST", "/containers/{id}/attach", SERVED),
    operation("ContainerAttachWebsocket", "GET", "/containers/{id}/attach/ws", SERVED),
    operation("ContainerWait", "POST", "/containers/{id}/wait", SERVED),
    operation("ContainerDelete", "DELETE", "/containers/{id}", SERVED),
    operation("ContainerArchiveInfo", "HEAD", "/containers/{id}/archive", SERVED),
    operation("ContainerArchive", "GET", "/containers/{id}/archive", SERVED),
    operation("PutContainerArchive", "PUT", "/containers/{id}/archive", SERVED),
    operation("ContainerPrune", "POST", "/containers/prune", SERVED),
    operation("ImageList", "GET", "/images/json", SERVED),
    operation("ImageBuild", "POST", "/build", partly("501 for git repositories by another protocol than http(s) as contexts or for ADD, squash, outputs, cache-from of registries")),
    operation("BuildPrune", "POST", "/build/prune", SERVED),
    operation("ImageCreate", "POST", "/images/create", SERVED),
    operation("ImageInspect", "GET", "/images/{name}/json", SERVED),
    operation("ImageAttestations", "GET", "/images/{name}/attestations", partly("501 for those that an index names: a pull brings the image alone")),
    operation("ImageHistory", "GET", "/images/{name}/history", SERVED),
    operation("ImagePush", "POST", "/images/{name}/push", SERVED),
    operation("ImageTag", "POST", "/images/{name}/tag", SERVED),
    operation("ImageDelete", "DELETE", "/images/{name}", SERVED),
    operation("ImageSearch", "GET", "/images/search", SERVED),
    operation("ImagePrune", "POST", "/images/prune", SERVED),
    operation("SystemAuth", "POST", "/auth", SERVED),
    operation("SystemInfo", "GET", "/info", SERVED),
    operation("SystemVersion", "GET", "/version", SERVED),
    operation("SystemPing", "GET", "/_ping", SERVED),
    operation("SystemPingHead", "HEAD", "/_ping", SERVED),
    operation("ImageCommit", "POST", "/commit", SERVED),
    operation("SystemEvents", "GET", "/events", SERVED),
    operation("SystemDataUsage", "GET", "/system/df", SERVED),
    operation("ImageGet", "GET", "/images/{name}/get", SERVED),
    operation("ImageGetAll", "GET", "/images/get", SERVED),
    operation("ImageLoad", "POST", "/images/load", SERVED),
    operation("ContainerExec", "POST", "/containers/{id}/exec", SERVED),
    operation("ExecStart", "POST", "/exec/{id}/start", SERVED),
    operation("ExecResize", "POST", "/exec/{id}/resize", SERVED),
    operation("ExecInspect", "GET", "/exec/{id}/json", SERVED),
    operation("VolumeList", "GET", "/volumes", SERVED),
    operation("VolumeCreate", "POST", "/volumes/create", SERVED),
    operation("VolumeInspect", "GET", "/volumes/{name}", SERVED),
    operation("VolumeUpdate", "PUT", "/volumes/{name}", Support::Answered(SWARM)),
    operation("VolumeDelete", "DELETE", "/volumes/{name}", SERVED),
    operation("VolumePrune", "POST", "/volumes/prune", SERVED),
    operation("NetworkList", "GET", "/networks", SERVED),
    operation("NetworkInspect", "GET", "/networks/{id}", SERVED),
    operation("NetworkDelete", "DELETE", "/networks/{id}", SERVED),
    operation("NetworkCreate", "POST", "/networks/create", SERVED),
    operation("NetworkConnect", "POST", "/networks/{id}/connect", SERVED),
    operation("NetworkDisconnect", "POST", "/networks/{id}/disconnect", SERVED),
    operation("NetworkPrune", "POST", "/networks/prune", SERVED),
    operation("PluginList", "GET", "/plugins", Support::Answered(PLUGINS)),
    operation("GetPluginPrivileges", "GET", "/plugins/privileges", absent("managed plugins")),
    operation("PluginPull", "POST", "/plugins/pull", absent("managed plugins")),
    operation("PluginInspect", "GET", "/plugins/{name}/json", Support::Answered(PLUGINS)),
    operation("PluginDelete", "DELETE", "/plugins/{name}", Support::Answered(PLUGINS)),
    operation("PluginEnable", "POST", "/plugins/{name}/enable", Support::Answered(PLUGINS)),
    operation("PluginDisable", "POST", "/plugins/{name}/disable", Support::Answered(PLUGINS)),
    operation("PluginUpgrade", "POST", "/plugins/{name}/upgrade", absent("managed plugins")),
    operation("PluginCreate", "POST", "/plugins/create", absent("managed plugins")),
    operation("PluginPush", "POST", "/plugins/{name}/push", absent("managed plugins")),
    operation("PluginSet", "POST", "/plugins/{name}/set", Support::Answered(PLUGINS)),
    operation("NodeList", "GET", "/nodes", Support::Answered(SWARM)),
    operation("NodeInspect", "GET", "/nodes/{id}", Support::Answered(SWARM)),
    operation("NodeDelete", "DELETE", "/nodes/{id}", Support::Answered(SWARM)),
    operation("NodeUpdate", "POST", "/nodes/{id}/update", Support::Answered(SWARM)),
    operation("SwarmInspect", "GET", "/swarm", Support::Answered(SWARM)),
    operation("SwarmInit", "POST", "/swarm/init", absent("swarm mode")),
    operation("SwarmJoin", "POST", "/swarm/join", absent("swarm mode")),
    operation("SwarmLeave", "POST", "/swarm/leave", Support::Answered(SWARM)),
    operation("SwarmUpdate", "POST", "/swarm/update", Support::Answered(SWARM)),
    operation("SwarmUnlockkey", "GET", "/swarm/unlockkey", Support::Answered(SWARM)),
    operation("SwarmUnlock", "POST", "/swarm/unlock", Support::Answered(SWARM)),
    operation("ServiceList", "GET", "/services", Support::Answered(SWARM)),
    operation("ServiceCreate", "POST", "/services/create", Support::Answered(SWARM)),
    operation("ServiceInspect", "GET", "/services/{id}", Support::Answered(SWARM)),
    operation("ServiceDelete", "DELETE", "/services/{id}", Support::Answered(SWARM)),
    operation("ServiceUpdate", "POST", "/services/{id}/update", Support::Answered(SWARM)),
    operation("ServiceLogs", "GET", "/services/{id}/logs", Support::Answered(SWARM)),
    operation("TaskList", "GET", "/tasks", Support::Answered(SWARM)),
    operation("TaskInspect", "GET", "/tasks/{id}", Support::Answered(SWARM)),
    operation("TaskLogs", "GET", "/tasks/{id}/logs", Support::Answered(SWARM)),
    operation("SecretList", "GET", "/secrets", Support::Answered(SWARM)),
    operation("SecretCreate", "POST", "/secrets/create", Support::Answered(SWARM)),
    operation("SecretInspect", "GET", "/secrets/{id}", Support::Answered(SWARM)),
    operation("SecretDelete", "DELETE", "/secrets/{id}", Support::Answered(SWARM)),
    operation("SecretUpdate", "POST", "/secrets/{id}/update", Support::Answered(SWARM)),
    operation("ConfigList", "GET", "/configs", Support::Answered(SWARM)),
    operation("ConfigCreate", "POST", "/configs/create", Support::Answered(SWARM)),
    operation("ConfigInspect", "GET", "/configs/{id}", Support::Answered(SWARM)),
    operation("ConfigDelete", "DELETE", "/configs/{id}", Support::Answered(SWARM)),
    operation("ConfigUpdate", "POST", "/configs/{id}/update", Support::Answered(SWARM)),
    operation("DistributionInspect", "GET", "/distribution/{name}/json", SERVED),
    operation("Session", "POST", "/session", SERVED),
    operation("BuildKit", "POST", "/grpc", partly("Unimplemented for frontends other than the Dockerfile's, LLB of clients, contexts by address, several platforms, attestations, caches of type gha, s3 and azblob, the history of builds")),
    operation("BuildCancel", "POST", "/build/cancel", absent("building images")),
    operation("CheckpointList", "GET", "/containers/{id}/checkpoints", absent("checkpoints, which Docker has in its experimental mode alone")),
    operation("CheckpointCreate", "POST", "/containers/{id}/checkpoints", absent("checkpoints, which Docker has in its experimental mode alone")),
    operation("CheckpointDelete", "DELETE", "/containers/{id}/checkpoints/{checkpoint}", absent("checkpoints, which Docker has in its experimental mode alone")),
    operation("HoistBuild", "POST", "/hoist/build", SERVED),
    operation("HoistBuildContextHead", "HEAD", "/hoist/build/contexts/{id}", SERVED),
    operation("HoistBuildContextPut", "PUT", "/hoist/build/contexts/{id}", SERVED),
    operation("HoistFsck", "POST", "/hoist/fsck", SERVED),
    operation("HoistNetworkExplain", "GET", "/hoist/network/{id}/explain", SERVED),
    operation("HoistStopAll", "POST", "/hoist/stop-all", SERVED),
];
