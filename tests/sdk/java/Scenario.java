import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.async.ResultCallback;
import com.github.dockerjava.api.command.InspectContainerResponse;
import com.github.dockerjava.api.command.LoadImageCallback;
import com.github.dockerjava.api.command.WaitContainerResultCallback;
import com.github.dockerjava.api.exception.BadRequestException;
import com.github.dockerjava.api.exception.ConflictException;
import com.github.dockerjava.api.exception.DockerException;
import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.api.exception.NotModifiedException;
import com.github.dockerjava.api.model.*;
import com.github.dockerjava.core.DefaultDockerClientConfig;
import com.github.dockerjava.core.DockerClientImpl;
import com.github.dockerjava.core.RemoteApiVersion;
import com.github.dockerjava.zerodep.ZerodepDockerHttpClient;
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import org.apache.commons.compress.archivers.tar.TarArchiveInputStream;

/** What programs do with docker-java: each method named in main is a test, run in this order on one engine. */
public final class Scenario {
    private static final String IMAGE = "alpine:latest";
    private static final String REGISTRY = System.getenv("HOIST_SDK_REGISTRY");
    private static final DockerClient docker = client(null);

    private static DockerClient client(String version) {
        DefaultDockerClientConfig.Builder builder = DefaultDockerClientConfig.createDefaultConfigBuilder();
        if (version != null) builder.withApiVersion(RemoteApiVersion.parseConfig(version));
        DefaultDockerClientConfig config = builder.build();
        return DockerClientImpl.getInstance(config, new ZerodepDockerHttpClient.Builder().dockerHost(config.getDockerHost()).build());
    }

    private static void check(boolean condition, Object told) {
        if (!condition) throw new AssertionError("not so: " + told);
    }

    private static String refused(Class<? extends DockerException> kind, Callable<?> call) throws Exception {
        try {
            call.call();
        } catch (DockerException error) {
            check(kind.isInstance(error), error);
            return error.getMessage();
        }
        throw new AssertionError("not refused with " + kind);
    }

    private static void until(Callable<Boolean> condition) throws Exception {
        for (long end = System.nanoTime() + 20_000_000_000L; !condition.call(); Thread.sleep(20)) {
            check(System.nanoTime() < end, "it never came true");
        }
    }

    /** Collects the frames of a stream, by their stream. */
    private static final class Frames extends ResultCallback.Adapter<Frame> {
        final Map<StreamType, StringBuffer> texts = new EnumMap<>(StreamType.class);

        @Override
        public synchronized void onNext(Frame frame) {
            texts.computeIfAbsent(frame.getStreamType(), kind -> new StringBuffer()).append(new String(frame.getPayload(), StandardCharsets.UTF_8));
        }

        String text(StreamType kind) {
            return String.valueOf(texts.getOrDefault(kind, new StringBuffer()));
        }

        Frames finish() throws InterruptedException {
            check(awaitCompletion(30, TimeUnit.SECONDS), "the stream does not end");
            return this;
        }
    }

    private static String run(String name, String... words) {
        var command = docker.createContainerCmd(IMAGE).withCmd(words);
        if (name != null) command.withName(name);
        String id = command.exec().getId();
        docker.startContainerCmd(id).exec();
        return id;
    }

    private static void remove(String id) {
        docker.removeContainerCmd(id).withForce(true).withRemoveVolumes(true).exec();
    }

    private static int await(String id) {
        return docker.waitContainerCmd(id).exec(new WaitContainerResultCallback()).awaitStatusCode(30, TimeUnit.SECONDS);
    }

    private static Frames execute(String id, String... words) throws Exception {
        String exec = docker.execCreateCmd(id).withCmd(words).withAttachStdout(true).withAttachStderr(true).exec().getId();
        return docker.execStartCmd(exec).exec(new Frames()).finish();
    }

    static void pingVersionInfo() throws Exception {
        docker.pingCmd().exec();
        check("1.55".equals(docker.versionCmd().exec().getApiVersion()), docker.versionCmd().exec());
        Info info = docker.infoCmd().exec();
        check("linux".equals(info.getOsType()) && info.getMemTotal() > 0 && info.getNCPU() > 0, info);
        for (String version : List.of("1.24", "1.32", "1.40", "1.44", "1.47", "1.51", "1.52", "1.53")) {
            try (DockerClient old = client(version)) {
                check("linux".equals(old.versionCmd().exec().getOperatingSystem()), version);
                old.infoCmd().exec();
                old.listContainersCmd().withShowAll(true).withShowSize(true).exec();
                old.listImagesCmd().exec();
                old.listVolumesCmd().exec();
                old.listNetworksCmd().exec();
            }
        }
        try (DockerClient fresh = client("1.99")) {
            check(refused(BadRequestException.class, () -> fresh.versionCmd().exec()).contains("too new"), "1.99");
        }
    }

    static void pullAndImages() throws Exception {
        docker.pullImageCmd("alpine").withTag("latest").start().awaitCompletion(60, TimeUnit.SECONDS);
        String name = REGISTRY + "/busybox";
        List<PullResponseItem> items = new ArrayList<>();
        docker.pullImageCmd(name).withTag("latest").exec(new ResultCallback.Adapter<PullResponseItem>() {
            @Override
            public void onNext(PullResponseItem item) {
                items.add(item);
            }
        }).awaitCompletion(60, TimeUnit.SECONDS);
        check(items.get(items.size() - 1).isPullSuccessIndicated(), items);
        var image = docker.inspectImageCmd(name + ":latest").exec();
        check("linux".equals(image.getOs()) && image.getConfig().getCmd()[0].equals("sh") && image.getSize() > 0, image);
        docker.tagImageCmd(image.getId(), "java-tag", "1").exec();
        check(docker.listImagesCmd().withReferenceFilter("java-tag").exec().get(0).getId().equals(image.getId()), "list");
        try (DockerClient old = client("1.40")) {
            check(old.listImagesCmd().withImageNameFilter("java-tag").exec().size() == 1, "the parameter that 1.41 took away");
        }
        byte[] saved;
        try (InputStream stream = docker.saveImageCmd("java-tag:1").exec()) {
            saved = stream.readAllBytes();
        }
        docker.removeImageCmd("java-tag:1").exec();
        docker.loadImageAsyncCmd(new ByteArrayInputStream(saved)).exec(new LoadImageCallback()).awaitMessage();
        docker.removeImageCmd("java-tag:1").exec();
        refused(NotFoundException.class, () -> docker.inspectImageCmd("java-tag:1").exec());
    }

    static void createOptions() throws Exception {
        ExposedPort port = ExposedPort.tcp(80);
        String id = docker.createContainerCmd(IMAGE).withName("java-options").withCmd("sleep", "60").withHostName("inside").withUser("1000")
            .withWorkingDir("/tmp").withEnv("A=1").withLabels(Map.of("kind", "java")).withExposedPorts(port, ExposedPort.udp(53)).withStopSignal("SIGINT")
            .withHealthcheck(new HealthCheck().withTest(List.of("NONE")))
            .withHostConfig(HostConfig.newHostConfig().withPortBindings(PortBinding.parse("127.0.0.1::80")).withMemory(64L << 20).withNanoCPUs(500_000_000L)
                .withPidsLimit(50L).withBinds(Bind.parse("java-data:/vol")).withRestartPolicy(RestartPolicy.onFailureRestart(3)).withInit(true)
                .withReadonlyRootfs(true).withTmpFs(Map.of("/scratch", "size=1m")).withUlimits(List.of(new Ulimit("nofile", 100L, 200L)))
                .withCapAdd(Capability.NET_ADMIN).withCapDrop(Capability.MKNOD).withExtraHosts("other:192.0.2.2").withSysctls(Map.of("net.ipv4.ip_forward", "0"))
                .withMounts(List.of(new Mount().withType(MountType.TMPFS).withTarget("/mem"))).withShmSize(8L << 20))
            .exec().getId();
        docker.startContainerCmd(id).exec();
        InspectContainerResponse told = docker.inspectContainerCmd(id).exec();
        check(told.getName().equals("/java-options") && told.getState().getRunning() && told.getState().getPidLong() > 0, told);
        check(told.getHostConfig().getMemory() == 64L << 20 && told.getHostConfig().getRestartPolicy().getMaximumRetryCount() == 3, told.getHostConfig());
        check(told.getMounts().size() == 2, told.getMounts());
        var bindings = told.getNetworkSettings().getPorts().getBindings();
        check(bindings.containsKey(port) && Integer.parseInt(bindings.get(port)[0].getHostPortSpec()) > 0, bindings);
        check(!told.getNetworkSettings().getNetworks().get("bridge").getIpAddress().isEmpty(), "an address");
        Frames seen = execute(id, "sh", "-c", "id -u; pwd; hostname; ulimit -n; echo $A");
        check(seen.text(StreamType.STDOUT).equals("1000\n/tmp\ninside\n100\n1\n"), seen.texts);
        refused(ConflictException.class, () -> docker.removeContainerCmd(id).exec());
        refused(ConflictException.class, () -> docker.createContainerCmd(IMAGE).withName("java-options").exec());
        refused(NotFoundException.class, () -> docker.createContainerCmd("nothing:here").exec());
        refused(BadRequestException.class, () -> docker.createContainerCmd(IMAGE).withName("bad name").exec());
        remove(id);
        refused(NotFoundException.class, () -> docker.inspectContainerCmd(id).exec());
        docker.removeVolumeCmd("java-data").exec();
    }

    static void attachWithStdin() throws Exception {
        String id = docker.createContainerCmd(IMAGE).withCmd("sh", "-c", "head -c 65536; echo over >&2").withStdinOpen(true).withStdInOnce(true)
            .withAttachStdin(true).withAttachStdout(true).withAttachStderr(true).exec().getId();
        // This client never half-closes: the program must know where its input ends.
        String big = "0123456789abcde\n".repeat(1 << 12);
        Frames frames = docker.attachContainerCmd(id).withStdOut(true).withStdErr(true).withFollowStream(true)
            .withStdIn(new ByteArrayInputStream(big.getBytes(StandardCharsets.UTF_8))).exec(new Frames());
        check(frames.awaitStarted(10, TimeUnit.SECONDS), "attach is answered before the start");
        docker.startContainerCmd(id).exec();
        frames.finish();
        check(frames.text(StreamType.STDOUT).equals(big) && frames.text(StreamType.STDERR).equals("over\n"), frames.texts.keySet());
        check(await(id) == 0, "exit code");
        remove(id);
    }

    static void execs() throws Exception {
        String id = run(null, "sleep", "60");
        String exec = docker.execCreateCmd(id).withCmd("sh", "-c", "echo o; echo e >&2; exit 3").withAttachStdout(true).withAttachStderr(true).exec().getId();
        Frames frames = docker.execStartCmd(exec).exec(new Frames()).finish();
        check(frames.text(StreamType.STDOUT).equals("o\n") && frames.text(StreamType.STDERR).equals("e\n"), frames.texts);
        check(docker.inspectExecCmd(exec).exec().getExitCodeLong() == 3, "exit code");
        String cat = docker.execCreateCmd(id).withCmd("head", "-n", "1").withAttachStdin(true).withAttachStdout(true).exec().getId();
        Frames through = docker.execStartCmd(cat).withStdIn(new ByteArrayInputStream("through\n".getBytes())).exec(new Frames()).finish();
        check(through.text(StreamType.STDOUT).equals("through\n"), through.texts);
        String terminal = docker.execCreateCmd(id).withCmd("sh", "-c", "until stty size | grep -q ^31; do sleep 0.1; done; stty size").withTty(true).withAttachStdin(true).withAttachStdout(true).exec().getId();
        Frames tty = docker.execStartCmd(terminal).withTty(true).exec(new Frames());
        check(tty.awaitStarted(10, TimeUnit.SECONDS), "started");
        docker.resizeExecCmd(terminal).withSize(31, 99).exec();
        tty.finish();
        check(tty.text(StreamType.RAW).contains("31 99"), tty.texts);
        docker.pauseContainerCmd(id).exec();
        refused(ConflictException.class, () -> docker.execCreateCmd(id).withCmd("true").exec());
        remove(id);
        refused(NotFoundException.class, () -> docker.execCreateCmd(id).withCmd("true").exec());
    }

    static void logsStatsTop() throws Exception {
        String id = run(null, "sh", "-c", "echo one; echo two >&2; sleep 0.3; echo three; sleep 60");
        Frames followed = docker.logContainerCmd(id).withStdOut(true).withStdErr(true).withFollowStream(true).exec(new Frames());
        until(() -> followed.text(StreamType.STDOUT).equals("one\nthree\n"));
        check(followed.text(StreamType.STDERR).equals("two\n"), followed.texts);
        followed.close();
        List<Statistics> samples = Collections.synchronizedList(new ArrayList<>());
        var stream = docker.statsCmd(id).exec(new ResultCallback.Adapter<Statistics>() {
            @Override
            public void onNext(Statistics sample) {
                samples.add(sample);
            }
        });
        until(() -> samples.size() >= 2);
        stream.close();
        check(samples.get(1).getPidsStats().getCurrent() >= 1 && samples.get(1).getNetworks().containsKey("eth0"), samples.get(1));
        check(docker.topContainerCmd(id).withPsArgs("aux").exec().getProcesses().length >= 1, "top");
        remove(id);
    }

    static void archives() throws Exception {
        String id = docker.createContainerCmd(IMAGE).withCmd("cat", "/tmp/in").exec().getId();
        File file = File.createTempFile("hoist", "in");
        try (Writer writer = new FileWriter(file)) {
            writer.write("put\n");
        }
        docker.copyArchiveToContainerCmd(id).withHostResource(file.getPath()).withRemotePath("/tmp").exec();
        try (TarArchiveInputStream tar = new TarArchiveInputStream(docker.copyArchiveFromContainerCmd(id, "/tmp/" + file.getName()).exec())) {
            check(tar.getNextEntry().getName().equals(file.getName()) && new String(tar.readAllBytes()).equals("put\n"), "what was put");
        }
        check(file.delete(), file);
        refused(NotFoundException.class, () -> docker.copyArchiveFromContainerCmd(id, "/nowhere").exec());
        remove(id);
    }

    static void verbs() throws Exception {
        String id = run("java-verbs", "sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.05; done");
        refused(NotModifiedException.class, () -> docker.startContainerCmd(id).exec());
        docker.pauseContainerCmd(id).exec();
        check(docker.inspectContainerCmd(id).exec().getState().getPaused(), "paused");
        docker.unpauseContainerCmd(id).exec();
        docker.restartContainerCmd(id).withTimeout(5).exec();
        // Until it has a handler for SIGTERM (bit 14 of SigCgt, proc_pid_status(5)).
        execute(id, "sh", "-c", "until grep -q \"^SigCgt:.*[4-7c-f]...$\" /proc/1/status; do sleep 0.05; done");
        docker.renameContainerCmd(id).withName("java-renamed").exec();
        check(docker.inspectContainerCmd("java-renamed").exec().getId().equals(id), "renamed");
        docker.updateContainerCmd(id).withMemory(100L << 20).withMemorySwap(200L << 20).exec();
        check(docker.inspectContainerCmd(id).exec().getHostConfig().getMemory() == 100L << 20, "updated");
        refused(BadRequestException.class, () -> docker.killContainerCmd(id).withSignal("NONSENSE").exec());
        docker.stopContainerCmd(id).withTimeout(5).exec();
        check(await(id) == 9, "exit code");
        refused(NotModifiedException.class, () -> docker.stopContainerCmd(id).exec());
        refused(ConflictException.class, () -> docker.killContainerCmd(id).exec());
        remove(id);
    }

    static void events() throws Exception {
        List<Event> seen = Collections.synchronizedList(new ArrayList<>());
        String since = String.valueOf(System.currentTimeMillis() / 1000);
        var stream = docker.eventsCmd().withContainerFilter("java-watched").withSince(since).exec(new ResultCallback.Adapter<Event>() {
            @Override
            public void onNext(Event event) {
                seen.add(event);
            }
        });
        String id = run("java-watched", "true");
        await(id);
        remove(id);
        until(() -> seen.stream().anyMatch(event -> "destroy".equals(event.getAction())));
        stream.close();
        List<String> actions = seen.stream().filter(event -> event.getType() == EventType.CONTAINER).map(Event::getAction).toList();
        check(actions.equals(List.of("create", "start", "die", "destroy")), actions);
        check(seen.get(0).getActor().getId().equals(id) && seen.get(0).getTimeNano() > 0, seen.get(0));
    }

    static void volumesNetworksPrune() throws Exception {
        docker.createVolumeCmd().withName("java-volume").withLabels(Map.of("a", "b")).exec();
        check(docker.inspectVolumeCmd("java-volume").exec().getLabels().get("a").equals("b"), "labels");
        check(docker.listVolumesCmd().withFilter("label", List.of("a=b")).exec().getVolumes().size() == 1, "list");
        String holder = docker.createContainerCmd(IMAGE).withHostConfig(HostConfig.newHostConfig().withBinds(Bind.parse("java-volume:/data"))).exec().getId();
        refused(ConflictException.class, () -> docker.removeVolumeCmd("java-volume").exec());
        check(docker.listContainersCmd().withShowAll(true).withVolumeFilter(List.of("java-volume")).exec().get(0).getId().equals(holder), "by volume");
        docker.pruneCmd(PruneType.CONTAINERS).exec();
        check(docker.listContainersCmd().withShowAll(true).exec().isEmpty(), "pruned");
        docker.removeVolumeCmd("java-volume").exec();
        check(docker.listVolumesCmd().exec().getVolumes() == null || docker.listVolumesCmd().exec().getVolumes().isEmpty(), "none left");
        Network bridge = docker.inspectNetworkCmd().withNetworkId("bridge").exec();
        check(bridge.getDriver().equals("bridge") && !bridge.getIpam().getConfig().isEmpty(), bridge);
    }

    static void diffCommitHealth() throws Exception {
        String id = run(null, "sh", "-c", "echo changed >/new");
        await(id);
        List<ChangeLog> changes = docker.containerDiffCmd(id).exec();
        check(changes.size() == 1 && changes.get(0).getPath().equals("/new") && changes.get(0).getKind() == 1, changes);
        String image = docker.commitCmd(id).withRepository("java-committed").withTag("1").withMessage("why").exec();
        check(docker.inspectImageCmd("java-committed:1").exec().getId().equals(image), image);
        remove(id);
        docker.removeImageCmd("java-committed:1").exec();
        String well = docker.createContainerCmd(IMAGE).withCmd("sleep", "60")
            .withHealthcheck(new HealthCheck().withTest(List.of("CMD", "true")).withInterval(100_000_000L).withTimeout(5_000_000_000L).withRetries(2)).exec().getId();
        docker.startContainerCmd(well).exec();
        until(() -> "healthy".equals(docker.inspectContainerCmd(well).exec().getState().getHealth().getStatus()));
        remove(well);
        String unchanged = docker.createContainerCmd(IMAGE).exec().getId();
        List<ChangeLog> none = docker.containerDiffCmd(unchanged).exec();
        check(none == null || none.isEmpty(), none);
        remove(unchanged);
    }

    private interface Test {
        void run() throws Exception;
    }

    public static void main(String[] arguments) {
        Map<String, Test> tests = new LinkedHashMap<>();
        tests.put("pingVersionInfo", Scenario::pingVersionInfo);
        tests.put("pullAndImages", Scenario::pullAndImages);
        tests.put("createOptions", Scenario::createOptions);
        tests.put("attachWithStdin", Scenario::attachWithStdin);
        tests.put("execs", Scenario::execs);
        tests.put("logsStatsTop", Scenario::logsStatsTop);
        tests.put("archives", Scenario::archives);
        tests.put("verbs", Scenario::verbs);
        tests.put("events", Scenario::events);
        tests.put("volumesNetworksPrune", Scenario::volumesNetworksPrune);
        tests.put("diffCommitHealth", Scenario::diffCommitHealth);
        tests.forEach((name, test) -> {
            String outcome = "ok";
            try {
                test.run();
            } catch (Throwable failure) {
                failure.printStackTrace();
                outcome = "FAILED";
                docker.listContainersCmd().withShowAll(true).exec().forEach(left -> remove(left.getId()));
            }
            System.out.println("test " + name + " ... " + outcome);
        });
        System.exit(0);
    }
}
