// The life of containers as programs written in Go tell it, with the Docker project's own client. Each function is a
// test, run in this order on one engine; the client's decoders refuse whatever has another type than Docker's.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

const alpine = "alpine:latest"

var (
	ctx      = context.Background()
	docker   *client.Client
	registry = os.Getenv("HOIST_SDK_REGISTRY")
)

// must ends the test that runs when there is an error.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// got is must for a call that answers something.
func got[T any](value T, err error) T {
	must(err)
	return value
}

// check ends the test that runs unless the condition holds.
func check(condition bool, told ...any) {
	if !condition {
		panic(fmt.Sprint(append([]any{"not so: "}, told...)...))
	}
}

// refused checks the class of an error that has to come.
func refused(is func(error) bool, err error) string {
	check(err != nil, "nothing was refused")
	check(is(err), "another class: ", err)
	return err.Error()
}

func until(condition func() bool) {
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		check(time.Now().Before(end), "never came true")
	}
}

// create makes a container of alpine that runs these words.
func create(name string, words ...string) string {
	made := got(docker.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: name, Config: &container.Config{Image: alpine, Cmd: words},
	}))
	return made.ID
}

func run(name string, words ...string) string {
	id := create(name, words...)
	got(docker.ContainerStart(ctx, id, client.ContainerStartOptions{}))
	return id
}

func inspect(id string) container.InspectResponse {
	return got(docker.ContainerInspect(ctx, id, client.ContainerInspectOptions{})).Container
}

func remove(id string) {
	got(docker.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}))
}

// wait answers the exit code.
func wait(id string, condition container.WaitCondition) int64 {
	waiting := docker.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: condition})
	select {
	case ended := <-waiting.Result:
		check(ended.Error == nil, ended.Error)
		return ended.StatusCode
	case err := <-waiting.Error:
		panic(err)
	}
}

// execute runs words in a container: exit code, stdout, stderr.
func execute(id string, words ...string) (int, string, string) {
	made := got(docker.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: words, AttachStdout: true, AttachStderr: true}))
	attached := got(docker.ExecAttach(ctx, made.ID, client.ExecAttachOptions{}))
	defer attached.Close()
	var out, err bytes.Buffer
	got(stdcopy.StdCopy(&out, &err, attached.Reader))
	return got(docker.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})).ExitCode, out.String(), err.String()
}

func archive(name, content string) io.Reader {
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	must(writer.WriteHeader(&tar.Header{Name: name, Mode: 0o640, Size: int64(len(content)), Uid: 12, Gid: 34}))
	got(writer.Write([]byte(content)))
	must(writer.Close())
	return &buffer
}

func pingVersionInfo() {
	ping := got(docker.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}))
	check(ping.APIVersion == "1.55" && ping.OSType == "linux", ping)
	check(docker.ClientVersion() == "1.55", docker.ClientVersion())
	version := got(docker.ServerVersion(ctx, client.ServerVersionOptions{}))
	check(version.APIVersion == "1.55" && version.MinAPIVersion == "1.24" && version.Os == "linux", version)
	info := got(docker.Info(ctx, client.InfoOptions{})).Info
	check(info.OSType == "linux" && info.MemTotal > 0 && info.NCPU > 0 && info.ID != "", info)
	check(!slices.Contains(info.Warnings, ""), info.Warnings)
	for _, old := range []string{"1.40", "1.44", "1.47", "1.51", "1.52", "1.53"} {
		past := got(client.New(client.FromEnv, client.WithAPIVersion(old)))
		got(past.ServerVersion(ctx, client.ServerVersionOptions{}))
		got(past.Info(ctx, client.InfoOptions{}))
		got(past.ContainerList(ctx, client.ContainerListOptions{All: true, Size: true}))
		got(past.ImageList(ctx, client.ImageListOptions{}))
		got(past.VolumeList(ctx, client.VolumeListOptions{}))
		got(past.NetworkList(ctx, client.NetworkListOptions{}))
		got(past.DiskUsage(ctx, client.DiskUsageOptions{Containers: true, Images: true, Volumes: true, BuildCache: true}))
		must(past.Close())
	}
}

func pullAndImages() {
	pull := got(docker.ImagePull(ctx, alpine, client.ImagePullOptions{}))
	must(pull.Wait(ctx))
	name := registry + "/busybox:latest"
	var last string
	for message, err := range got(docker.ImagePull(ctx, name, client.ImagePullOptions{})).JSONMessages(ctx) {
		must(err)
		last = message.Status
	}
	check(strings.HasPrefix(last, "Status: Downloaded newer image for "+name), last)
	_, err := docker.ImagePull(ctx, registry+"/missing:1", client.ImagePullOptions{})
	refused(errdefs.IsNotFound, err)
	image := got(docker.ImageInspect(ctx, name))
	check(image.Os == "linux" && image.Config.Cmd[0] == "sh" && len(image.RepoDigests) == 1 && image.Size > 0, image)
	platform := client.ImageInspectWithPlatform(&v1.Platform{OS: "linux", Architecture: image.Architecture})
	check(got(docker.ImageInspect(ctx, name, platform)).ID == image.ID)
	history := got(docker.ImageHistory(ctx, name)).Items
	check(len(history) == 1 && history[0].ID == image.ID, history)
	got(docker.ImageTag(ctx, client.ImageTagOptions{Source: name, Target: "go-tag:1"}))
	listed := got(docker.ImageList(ctx, client.ImageListOptions{SharedSize: true, Filters: client.Filters{}.Add("reference", "go-tag")})).Items
	check(len(listed) == 1 && listed[0].ID == image.ID && listed[0].Created > 0 && listed[0].Containers >= -1, listed)
	saved := got(docker.ImageSave(ctx, []string{"go-tag:1"}))
	removed := got(docker.ImageRemove(ctx, "go-tag:1", client.ImageRemoveOptions{})).Items
	check(len(removed) == 1 && removed[0].Untagged == "go-tag:1", removed)
	loaded := got(docker.ImageLoad(ctx, saved))
	told := string(got(io.ReadAll(loaded)))
	check(strings.Contains(told, "Loaded image: go-tag:1"), told)
	got(docker.ImageRemove(ctx, "go-tag:1", client.ImageRemoveOptions{}))
	_, err = docker.ImageInspect(ctx, "go-tag:1")
	check(strings.Contains(refused(errdefs.IsNotFound, err), "No such image"), err)
	check(got(docker.ImagePrune(ctx, client.ImagePruneOptions{})).Report.SpaceReclaimed == 0)
}

func createOptions() {
	port := network.MustParsePort("80/tcp")
	made := got(docker.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: "go-options",
		Config: &container.Config{
			Image: alpine, Hostname: "inside", User: "1000:1000", WorkingDir: "/tmp", Env: []string{"A=1"},
			Cmd: []string{"sleep", "60"}, Labels: map[string]string{"kind": "go"}, StopSignal: "SIGINT",
			ExposedPorts: network.PortSet{port: {}, network.MustParsePort("53/udp"): {}},
			Healthcheck:  &container.HealthConfig{Test: []string{"CMD", "true"}, Interval: time.Second},
		},
		HostConfig: &container.HostConfig{
			PortBindings:  network.PortMap{port: {{HostPort: ""}}},
			RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyOnFailure, MaximumRetryCount: 3},
			CapAdd:        []string{"NET_ADMIN"}, CapDrop: []string{"MKNOD"}, ReadonlyRootfs: true, ShmSize: 8 << 20,
			Tmpfs:  map[string]string{"/scratch": "size=1m"},
			Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: "go-data", Target: "/vol"}, {Type: mount.TypeTmpfs, Target: "/mem"}},
			Resources: container.Resources{
				Memory: 64 << 20, NanoCPUs: 500_000_000, PidsLimit: ptr(int64(50)),
				Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}},
			},
			Sysctls: map[string]string{"net.ipv4.ip_forward": "0"}, ExtraHosts: []string{"other:192.0.2.2"}, Init: ptr(true),
		},
	}))
	check(len(made.ID) == 64 && len(made.Warnings) == 0, made)
	shown := inspect(made.ID)
	host := shown.HostConfig
	check(shown.Name == "/go-options" && shown.State.Status == "created" && shown.Config.Hostname == "inside", shown)
	check(host.Memory == 64<<20 && host.NanoCPUs == 500_000_000 && *host.PidsLimit == 50 && *host.Init, host)
	check(len(shown.Mounts) == 2, shown.Mounts)
	got(docker.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}))
	shown = inspect(made.ID)
	check(shown.State.Running && shown.State.Pid > 0 && shown.State.StartedAt != "", shown.State)
	check(len(shown.NetworkSettings.Ports[port]) >= 1 && shown.NetworkSettings.Ports[port][0].HostPort != "", shown.NetworkSettings.Ports)
	check(shown.NetworkSettings.Networks["bridge"].IPAddress.IsValid(), shown.NetworkSettings.Networks["bridge"])
	code, out, _ := execute(made.ID, "sh", "-c", "id -u; pwd; ulimit -n; echo $A; mount | grep -c ' /scratch\\| /mem\\| /vol'")
	check(code == 0 && out == "1000\n/tmp\n100\n1\n3\n", code, " ", out)
	_, err := docker.ContainerRemove(ctx, made.ID, client.ContainerRemoveOptions{})
	refused(errdefs.IsConflict, err)
	_, err = docker.ContainerCreate(ctx, client.ContainerCreateOptions{Name: "go-options", Image: alpine})
	refused(errdefs.IsConflict, err)
	_, err = docker.ContainerCreate(ctx, client.ContainerCreateOptions{Image: "nothing:here"})
	refused(errdefs.IsNotFound, err)
	_, err = docker.ContainerCreate(ctx, client.ContainerCreateOptions{Name: "bad name", Image: alpine})
	refused(errdefs.IsInvalidArgument, err)
	remove(made.ID)
	_, err = docker.ContainerInspect(ctx, made.ID, client.ContainerInspectOptions{})
	refused(errdefs.IsNotFound, err)
	got(docker.VolumeRemove(ctx, "go-data", client.VolumeRemoveOptions{}))
}

func ptr[T any](value T) *T { return &value }

func attachHijacked() {
	made := got(docker.ContainerCreate(ctx, client.ContainerCreateOptions{Config: &container.Config{
		Image: alpine, Cmd: []string{"sh", "-c", "cat; echo over >&2"}, OpenStdin: true, StdinOnce: true,
		AttachStdin: true, AttachStdout: true, AttachStderr: true,
	}}))
	attached := got(docker.ContainerAttach(ctx, made.ID, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true}))
	kind, known := attached.MediaType()
	check(known && kind == "application/vnd.docker.multiplexed-stream", kind)
	got(docker.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}))
	big := strings.Repeat("0123456789abcde\n", 1<<16)
	go func() {
		_, _ = io.WriteString(attached.Conn, big)
		_ = attached.CloseWrite()
	}()
	var out, err bytes.Buffer
	got(stdcopy.StdCopy(&out, &err, attached.Reader))
	attached.Close()
	check(out.String() == big && err.String() == "over\n", out.Len(), " ", err.String())
	check(wait(made.ID, container.WaitConditionNotRunning) == 0)
	remove(made.ID)
}

func execTerminal() {
	id := run("", "sleep", "60")
	made := got(docker.ExecCreate(ctx, id, client.ExecCreateOptions{
		Cmd: []string{"sh", "-c", "stty size; read x; stty size; exit 5"}, TTY: true, AttachStdin: true, AttachStdout: true,
		ConsoleSize: client.ConsoleSize{Height: 20, Width: 70},
	}))
	attached := got(docker.ExecAttach(ctx, made.ID, client.ExecAttachOptions{TTY: true, ConsoleSize: client.ConsoleSize{Height: 20, Width: 70}}))
	first := got(attached.Reader.ReadString('\n'))
	check(strings.TrimSpace(first) == "20 70", first)
	got(docker.ExecResize(ctx, made.ID, client.ExecResizeOptions{Height: 31, Width: 99}))
	got(attached.Conn.Write([]byte("\n")))
	rest := string(got(io.ReadAll(attached.Reader)))
	attached.Close()
	check(strings.Contains(rest, "31 99"), rest)
	until(func() bool { return !got(docker.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})).Running })
	check(got(docker.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})).ExitCode == 5)
	code, out, errors := execute(id, "sh", "-c", "echo o; echo e >&2; exit 3")
	check(code == 3 && out == "o\n" && errors == "e\n", code, out, errors)
	detached := got(docker.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"touch", "/tmp/made"}}))
	got(docker.ExecStart(ctx, detached.ID, client.ExecStartOptions{Detach: true}))
	until(func() bool { code, _, _ := execute(id, "test", "-e", "/tmp/made"); return code == 0 })
	_, err := docker.ExecInspect(ctx, strings.Repeat("0", 64), client.ExecInspectOptions{})
	refused(errdefs.IsNotFound, err)
	got(docker.ContainerPause(ctx, id, client.ContainerPauseOptions{}))
	_, err = docker.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"true"}})
	refused(errdefs.IsConflict, err)
	remove(id)
}

func logs() {
	id := run("", "sh", "-c", "echo one; echo two >&2; sleep 0.3; echo three")
	var out, err bytes.Buffer
	stream := got(docker.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: true}))
	got(stdcopy.StdCopy(&out, &err, stream))
	must(stream.Close())
	check(out.String() == "one\nthree\n" && err.String() == "two\n", out.String(), err.String())
	tail := got(docker.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, Tail: "1", Timestamps: true, Since: "1h"}))
	out.Reset()
	got(stdcopy.StdCopy(&out, &err, tail))
	check(strings.HasSuffix(out.String(), "Z three\n"), out.String())
	_, failure := docker.ContainerLogs(ctx, id, client.ContainerLogsOptions{})
	refused(errdefs.IsInvalidArgument, failure)
	remove(id)
}

func statsAndTop() {
	id := run("go-stats", "sleep", "60")
	var shot container.StatsResponse
	reply := got(docker.ContainerStats(ctx, id, client.ContainerStatsOptions{}))
	must(json.NewDecoder(reply.Body).Decode(&shot))
	check(shot.Name == "/go-stats" && shot.ID == id && shot.PidsStats.Current >= 1 && shot.PreRead.IsZero(), shot)
	reply = got(docker.ContainerStats(ctx, id, client.ContainerStatsOptions{IncludePreviousSample: true}))
	must(json.NewDecoder(reply.Body).Decode(&shot))
	check(shot.PreCPUStats.SystemUsage > 0 && shot.CPUStats.SystemUsage > shot.PreCPUStats.SystemUsage, shot)
	reply = got(docker.ContainerStats(ctx, id, client.ContainerStatsOptions{Stream: true}))
	decoder := json.NewDecoder(reply.Body)
	for range 2 {
		must(decoder.Decode(&shot))
	}
	must(reply.Body.Close())
	check(len(shot.Networks) == 1, shot.Networks)
	top := got(docker.ContainerTop(ctx, id, client.ContainerTopOptions{Arguments: []string{"-o", "pid,comm"}}))
	check(slices.Equal(top.Titles, []string{"PID", "COMMAND"}) && len(top.Processes) == 1, top)
	remove(id)
}

func archives() {
	id := create("", "cat", "/tmp/in")
	got(docker.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: "/tmp", Content: archive("in", "put\n"), CopyUIDGID: true}))
	stat := got(docker.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{Path: "/tmp/in"})).Stat
	check(stat.Name == "in" && stat.Size == 4 && stat.Mode == 0o640, stat)
	check(got(docker.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{Path: "/tmp"})).Stat.Mode.IsDir())
	copied := got(docker.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: "/tmp/in"}))
	reader := tar.NewReader(copied.Content)
	header := got(reader.Next())
	check(header.Name == "in" && header.Uid == 12 && header.Gid == 34, header)
	check(string(got(io.ReadAll(reader))) == "put\n")
	must(copied.Content.Close())
	_, err := docker.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{Path: "/nowhere"})
	refused(errdefs.IsNotFound, err)
	remove(id)
}

func waitConditions() {
	made := got(docker.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config: &container.Config{Image: alpine, Cmd: []string{"sh", "-c", "exit 4"}}, HostConfig: &container.HostConfig{AutoRemove: true},
	}))
	next := docker.ContainerWait(ctx, made.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	gone := docker.ContainerWait(ctx, made.ID, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	got(docker.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}))
	for _, waiting := range []client.ContainerWaitResult{next, gone} {
		select {
		case ended := <-waiting.Result:
			check(ended.StatusCode == 4, ended)
		case err := <-waiting.Error:
			panic(err)
		}
	}
	_, err := docker.ContainerInspect(ctx, made.ID, client.ContainerInspectOptions{})
	refused(errdefs.IsNotFound, err)
	id := create("", "true")
	check(wait(id, container.WaitConditionNotRunning) == 0)
	remove(id)
}

func verbs() {
	id := run("go-verbs", "sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.05; done")
	got(docker.ContainerStart(ctx, id, client.ContainerStartOptions{})) // 304: runs already
	got(docker.ContainerPause(ctx, id, client.ContainerPauseOptions{}))
	check(inspect(id).State.Paused && inspect(id).State.Status == container.StatePaused)
	_, err := docker.ContainerPause(ctx, id, client.ContainerPauseOptions{})
	refused(errdefs.IsConflict, err)
	got(docker.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{}))
	before := inspect(id).State.StartedAt
	got(docker.ContainerRestart(ctx, id, client.ContainerRestartOptions{Timeout: ptr(5)}))
	check(inspect(id).State.StartedAt != before)
	// Until it has a handler for SIGTERM (bit 14 of SigCgt, proc_pid_status(5)).
	execute(id, "sh", "-c", `until grep -q "^SigCgt:.*[4-7c-f]...$" /proc/1/status; do sleep 0.05; done`)
	got(docker.ContainerRename(ctx, id, client.ContainerRenameOptions{NewName: "go-renamed"}))
	check(inspect("go-renamed").ID == id)
	updated := got(docker.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{Resources: &container.Resources{Memory: 100 << 20, MemorySwap: 200 << 20}}))
	check(len(updated.Warnings) == 0 && inspect(id).HostConfig.Memory == 100<<20, updated)
	got(docker.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "SIGCONT"}))
	_, err = docker.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "NONSENSE"})
	refused(errdefs.IsInvalidArgument, err)
	got(docker.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: ptr(5)}))
	check(inspect(id).State.ExitCode == 9, inspect(id).State)
	got(docker.ContainerStop(ctx, id, client.ContainerStopOptions{})) // 304: rests already
	_, err = docker.ContainerKill(ctx, id, client.ContainerKillOptions{})
	refused(errdefs.IsConflict, err)
	remove(id)
}

func eventStream() {
	start := time.Now()
	following, stop := context.WithCancel(ctx)
	filters := client.Filters{}.Add("type", "container").Add("container", "go-watched")
	stream := docker.Events(following, client.EventsListOptions{Filters: filters, Since: fmt.Sprint(start.Unix())})
	id := run("go-watched", "true")
	wait(id, container.WaitConditionNotRunning)
	remove(id)
	var actions []events.Action
	for !slices.Contains(actions, events.ActionDestroy) {
		select {
		case event := <-stream.Messages:
			check(event.Type == events.ContainerEventType && event.Actor.ID == id && event.TimeNano > 0, event)
			actions = append(actions, event.Action)
		case err := <-stream.Err:
			panic(err)
		}
	}
	stop()
	check(slices.Equal(actions, []events.Action{"create", "start", "die", "destroy"}), actions)
	replayed := docker.Events(ctx, client.EventsListOptions{Filters: filters, Since: fmt.Sprint(start.Unix()), Until: fmt.Sprint(time.Now().Unix() + 1)})
	count := 0
	for open := true; open; {
		select {
		case <-replayed.Messages:
			count++
		case err := <-replayed.Err:
			check(errors.Is(err, io.EOF), err)
			open = false
		}
	}
	check(count == 4, count)
}

func volumesAndUsage() {
	made := got(docker.VolumeCreate(ctx, client.VolumeCreateOptions{Name: "go-volume", Labels: map[string]string{"a": "b"}})).Volume
	check(made.Name == "go-volume" && made.Driver == "local" && made.Mountpoint != "", made)
	listed := got(docker.VolumeList(ctx, client.VolumeListOptions{Filters: client.Filters{}.Add("label", "a=b")}))
	check(len(listed.Items) == 1 && len(listed.Warnings) == 0, listed)
	holder := got(docker.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config: &container.Config{Image: alpine}, HostConfig: &container.HostConfig{Binds: []string{"go-volume:/data:ro"}},
	})).ID
	_, err := docker.VolumeRemove(ctx, "go-volume", client.VolumeRemoveOptions{})
	refused(errdefs.IsConflict, err)
	usage := got(docker.DiskUsage(ctx, client.DiskUsageOptions{Containers: true, Images: true, Volumes: true, Verbose: true}))
	check(usage.Volumes.TotalCount == 1 && len(usage.Volumes.Items) == 1 && usage.Containers.TotalCount == 1, usage)
	check(usage.Images.TotalCount >= 2 && usage.Images.TotalSize > 0, usage.Images)
	remove(holder)
	pruned := got(docker.VolumePrune(ctx, client.VolumePruneOptions{All: true})).Report
	check(slices.Equal(pruned.VolumesDeleted, []string{"go-volume"}), pruned)
	_, err = docker.VolumeInspect(ctx, "go-volume", client.VolumeInspectOptions{})
	refused(errdefs.IsNotFound, err)
}

func commitDiffExport() {
	id := run("", "sh", "-c", "echo changed >/new")
	wait(id, container.WaitConditionNotRunning)
	changes := got(docker.ContainerDiff(ctx, id, client.ContainerDiffOptions{})).Changes
	check(len(changes) == 1 && changes[0].Path == "/new" && changes[0].Kind == container.ChangeAdd, changes)
	committed := got(docker.ContainerCommit(ctx, id, client.ContainerCommitOptions{Reference: "go-committed:1", Comment: "why", Changes: []string{`CMD ["cat","/new"]`}}))
	check(strings.HasPrefix(committed.ID, "sha256:") && got(docker.ImageInspect(ctx, "go-committed:1")).Comment == "why", committed)
	exported := got(docker.ContainerExport(ctx, id, client.ContainerExportOptions{}))
	imported := got(docker.ImageImport(ctx, client.ImageImportSource{SourceName: "-", Source: exported}, "go-imported:1", client.ImageImportOptions{}))
	check(strings.Contains(string(got(io.ReadAll(imported))), "sha256:"))
	must(exported.Close())
	remove(id)
	for _, name := range []string{"go-committed:1", "go-imported:1"} {
		got(docker.ImageRemove(ctx, name, client.ImageRemoveOptions{PruneChildren: true}))
	}
}

func listsAndPrune() {
	first := create("go-one", "true")
	second := run("go-two", "sleep", "60")
	names := func(filters client.Filters) string {
		var found []string
		for _, one := range got(docker.ContainerList(ctx, client.ContainerListOptions{All: true, Size: true, Filters: filters})).Items {
			found = append(found, one.Names...)
			check(one.ImageID != "" && one.State != "" && one.Created > 0 && one.NetworkSettings.Networks["bridge"] != nil, one)
		}
		slices.Sort(found)
		return strings.Join(found, " ")
	}
	check(names(nil) == "/go-one /go-two", names(nil))
	check(names(client.Filters{}.Add("status", "created")) == "/go-one")
	check(names(client.Filters{}.Add("name", "two")) == "/go-two")
	check(names(client.Filters{}.Add("before", second)) == "/go-one")
	_, err := docker.ContainerList(ctx, client.ContainerListOptions{Filters: client.Filters{}.Add("nonsense", "1")})
	refused(errdefs.IsInvalidArgument, err)
	pruned := got(docker.ContainerPrune(ctx, client.ContainerPruneOptions{})).Report
	check(slices.Equal(pruned.ContainersDeleted, []string{first}), pruned)
	remove(second)
	check(len(got(docker.ContainerPrune(ctx, client.ContainerPruneOptions{})).Report.ContainersDeleted) == 0)
	bridge := got(docker.NetworkInspect(ctx, "bridge", client.NetworkInspectOptions{Verbose: true})).Network
	check(bridge.Driver == "bridge" && len(bridge.IPAM.Config) >= 1 && bridge.IPAM.Config[0].Subnet.IsValid(), bridge)
}

func main() {
	docker = got(client.New(client.FromEnv))
	tests := []struct {
		name string
		run  func()
	}{
		{"pingVersionInfo", pingVersionInfo}, {"pullAndImages", pullAndImages}, {"createOptions", createOptions},
		{"attachHijacked", attachHijacked}, {"execTerminal", execTerminal}, {"logs", logs}, {"statsAndTop", statsAndTop},
		{"archives", archives}, {"waitConditions", waitConditions}, {"verbs", verbs}, {"eventStream", eventStream},
		{"volumesAndUsage", volumesAndUsage}, {"commitDiffExport", commitDiffExport}, {"listsAndPrune", listsAndPrune},
	}
	for _, test := range tests {
		outcome := "FAILED"
		func() {
			defer func() {
				if failure := recover(); failure != nil {
					fmt.Fprintf(os.Stderr, "%s: %v\n", test.name, failure)
					left, _ := docker.ContainerList(ctx, client.ContainerListOptions{All: true})
					for _, one := range left.Items {
						_, _ = docker.ContainerRemove(ctx, one.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
					}
				}
			}()
			test.run()
			outcome = "ok"
		}()
		fmt.Printf("test %s ... %s\n", test.name, outcome)
	}
}
