import com.github.dockerjava.api.command.InspectContainerResponse;
import com.github.dockerjava.api.exception.NotFoundException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.testcontainers.DockerClientFactory;
import org.testcontainers.containers.BindMode;
import org.testcontainers.containers.Container.ExecResult;
import org.testcontainers.containers.ContainerLaunchException;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.Network;
import org.testcontainers.containers.output.OutputFrame;
import org.testcontainers.containers.output.WaitingConsumer;
import org.testcontainers.containers.startupcheck.OneShotStartupCheckStrategy;
import org.testcontainers.containers.wait.strategy.Wait;
import org.testcontainers.images.builder.Transferable;
import org.testcontainers.utility.DockerImageName;
import org.testcontainers.utility.MountableFile;

/** What programs do with testcontainers for Java: each method is a test, run in this order on one engine. */
public final class Scenario {
    private static final DockerImageName SERVER = DockerImageName.parse("testcontainers/helloworld:1.3.0");
    private static final DockerImageName IMAGE = DockerImageName.parse("alpine:latest");
    private static final Path WORK = Path.of(System.getenv("HOIST_SDK_WORK"));

    private interface Test {
        void run() throws Exception;
    }

    private static void same(Object expected, Object seen) {
        if (!expected.equals(seen)) {
            throw new AssertionError("expected <" + expected + ">, seen <" + seen + ">");
        }
    }

    private static void holds(boolean is, String what) {
        if (!is) {
            throw new AssertionError(what);
        }
    }

    private static GenericContainer<?> server() {
        return new GenericContainer<>(SERVER).withExposedPorts(8080);
    }

    private static GenericContainer<?> sleeper() {
        return new GenericContainer<>(IMAGE).withCommand("sleep", "300");
    }

    private static String ping(GenericContainer<?> server) throws Exception {
        URI address = URI.create("http://" + server.getHost() + ":" + server.getMappedPort(8080) + "/ping");
        HttpRequest request = HttpRequest.newBuilder(address).timeout(Duration.ofSeconds(30)).build();
        return HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
    }

    private static boolean exists(String id) {
        try {
            DockerClientFactory.instance().client().inspectContainerCmd(id).exec();
            return true;
        } catch (NotFoundException gone) {
            return false;
        }
    }

    private static void aMappedPortIsWaitedForAndReached() throws Exception {
        String id;
        try (GenericContainer<?> server = server()) {
            server.start();
            same("PONG", ping(server));
            id = server.getContainerId();
            holds(exists(id), "it is there");
        }
        holds(!exists(id), "it is gone");
    }

    private static void wordsInTheLogAndAnswersAreWaitedFor() throws Exception {
        for (GenericContainer<?> one : List.of(
                server().waitingFor(Wait.forLogMessage(".*Ready, listening on.*\\n", 1)),
                server().waitingFor(Wait.forHttp("/ping").forPort(8080).forStatusCode(200).forResponsePredicate("PONG"::equals)),
                server().waitingFor(Wait.forSuccessfulCommand("test -e /www/ping")),
                server().withCreateContainerCmdModifier(create -> create.withHealthcheck(new com.github.dockerjava.api.model.HealthCheck()
                        .withTest(List.of("CMD-SHELL", "test -e /www/ping")).withInterval(200_000_000L).withRetries(30)))
                        .waitingFor(Wait.forHealthcheck()))) {
            try (one) {
                one.start();
                same("PONG", ping(one));
            }
        }
        try (GenericContainer<?> once = new GenericContainer<>(IMAGE).withCommand("sh", "-c", "echo done; exit 0")
                .withStartupCheckStrategy(new OneShotStartupCheckStrategy())) {
            once.start();
            same("done\n", once.getLogs(OutputFrame.OutputType.STDOUT));
        }
        WaitingConsumer heard = new WaitingConsumer();
        try (GenericContainer<?> talker = new GenericContainer<>(IMAGE)
                .withCommand("sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done").withLogConsumer(heard)) {
            talker.start();
            heard.waitUntil(frame -> frame.getUtf8String().contains("line 5"), 60, java.util.concurrent.TimeUnit.SECONDS);
        }
    }

    private static void whatNeverComesIsToldAndLeavesNothing() {
        GenericContainer<?> waiting = sleeper().withCreateContainerCmdModifier(create -> create.withName("tc-never"))
                .waitingFor(Wait.forLogMessage("never said", 1).withStartupTimeout(Duration.ofMillis(1500)));
        try {
            waiting.start();
        } catch (ContainerLaunchException late) {
            holds(!exists("tc-never"), "it is left");
            return;
        }
        throw new AssertionError("it started");
    }

    private static void programsRunInside() throws Exception {
        try (GenericContainer<?> one = sleeper()) {
            one.start();
            ExecResult said = one.execInContainer("sh", "-c", "echo out; echo err >&2; exit 3");
            same("3 out\n err\n", said.getExitCode() + " " + said.getStdout() + " " + said.getStderr());
            same("65534\n", one.execInContainerWithUser("nobody", "id", "-u").getStdout());
        }
    }

    private static void filesGoInAndComeOut() throws Exception {
        Path tree = Files.createDirectories(WORK.resolve("tree/deep"));
        Files.writeString(tree.resolve("leaf"), "a leaf");
        try (GenericContainer<?> one = sleeper().withCopyToContainer(Transferable.of("content", 0640), "/in/content")
                .withCopyFileToContainer(MountableFile.forHostPath(WORK.resolve("tree")), "/in/tree")) {
            one.start();
            ExecResult seen = one.execInContainer("sh", "-c", "cat /in/content /in/tree/deep/leaf; stat -c %a /in/content");
            same("contenta leaf640\n", seen.getStdout());
            one.copyFileToContainer(Transferable.of("later"), "/in/later");
            same("later", one.copyFileFromContainer("/in/later", stream -> new String(stream.readAllBytes())));
        }
    }

    private static void settingsReachTheContainer() throws Exception {
        try (GenericContainer<?> one = sleeper().withEnv("A", "1").withLabel("kind", "tc").withTmpFs(Map.of("/scratch", "rw,size=1m"))
                .withFileSystemBind(WORK.toString(), "/host", BindMode.READ_ONLY).withExtraHost("there", "192.0.2.7")
                .withCreateContainerCmdModifier(create -> create.withUser("33:33").withHostName("box").getHostConfig().withMemory(64L << 20))) {
            one.start();
            InspectContainerResponse told = one.getContainerInfo();
            holds(List.of(told.getConfig().getEnv()).contains("A=1"), "the environment");
            same("tc", told.getConfig().getLabels().get("kind"));
            same(64L << 20, told.getHostConfig().getMemory());
            String ask = "id -u; hostname; grep -c there /etc/hosts; touch /host/x 2>/dev/null || echo refused; df -k /scratch | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2";
            same("33\nbox\n1\nrefused\n1024\n", one.execInContainer("sh", "-c", ask).getStdout());
        }
    }

    private static void containersMeetOnANetwork() throws Exception {
        try (Network network = Network.newNetwork();
                GenericContainer<?> server = new GenericContainer<>(SERVER).withNetwork(network).withNetworkAliases("server", "www")
                        .waitingFor(Wait.forLogMessage(".*Ready.*\\n", 1));
                GenericContainer<?> asker = sleeper().withNetwork(network)) {
            server.start();
            asker.start();
            for (String name : List.of("server", "www")) {
                ExecResult said = asker.execInContainer("wget", "-qO-", "http://" + name + ":8080/ping");
                same("0 PONG", said.getExitCode() + " " + said.getStdout());
            }
        }
    }

    public static void main(String[] arguments) {
        Map<String, Test> tests = new LinkedHashMap<>();
        tests.put("aMappedPortIsWaitedForAndReached", Scenario::aMappedPortIsWaitedForAndReached);
        tests.put("wordsInTheLogAndAnswersAreWaitedFor", Scenario::wordsInTheLogAndAnswersAreWaitedFor);
        tests.put("whatNeverComesIsToldAndLeavesNothing", Scenario::whatNeverComesIsToldAndLeavesNothing);
        tests.put("programsRunInside", Scenario::programsRunInside);
        tests.put("filesGoInAndComeOut", Scenario::filesGoInAndComeOut);
        tests.put("settingsReachTheContainer", Scenario::settingsReachTheContainer);
        tests.put("containersMeetOnANetwork", Scenario::containersMeetOnANetwork);
        tests.forEach((name, test) -> {
            String outcome = "ok";
            try {
                test.run();
            } catch (Exception | AssertionError failure) {
                failure.printStackTrace(System.out);
                outcome = "FAILED";
            }
            System.out.println("test " + name + " ... " + outcome);
        });
        System.exit(0);
    }
}
