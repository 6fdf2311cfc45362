'use strict';
// What programs do with dockerode: each function is a test, run in this order on one engine.

const assert = require('node:assert');
const { PassThrough, Readable } = require('node:stream');
const Docker = require('dockerode');

const REGISTRY = process.env.HOIST_SDK_REGISTRY;
const IMAGE = 'alpine:latest';
const docker = new Docker();

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Waits until the condition holds. */
// Waits until the first process has a handler for SIGTERM (bit 14 of SigCgt, proc_pid_status(5)).
async function hearsTerm(container) {
  await execute(container, ['sh', '-c', 'until grep -q "^SigCgt:.*[4-7c-f]...$" /proc/1/status; do sleep 0.05; done']);
}

async function until(condition) {
  for (const end = Date.now() + 20000; ;) {
    const found = await condition();
    if (found) return found;
    assert(Date.now() < end, 'never came true');
    await sleep(20);
  }
}

/** The text of a refusal with this status. */
async function refused(status, promise) {
  try {
    await promise;
  } catch (error) {
    assert.strictEqual(error.statusCode, status, error.message);
    // dockerode parses the body of what it expects to be JSON only.
    assert(error.json ? error.json.message : error.message.length > 40, 'fails without a word');
    return error.message;
  }
  throw new Error(`not refused with ${status}`);
}

/** Everything a stream says. */
async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts.map((part) => Buffer.from(part)));
}

/** The two streams that travel in one. */
async function split(stream) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  stream.on('end', () => [out, err].forEach((one) => one.end()));
  const texts = await Promise.all([all(out), all(err)]);
  return texts.map(String);
}

const progress = (stream) => new Promise((resolve, reject) =>
  docker.modem.followProgress(stream, (error, lines) => (error ? reject(error) : resolve(lines))));

const run = async (options) => {
  const container = await docker.createContainer({ Image: IMAGE, ...options });
  await container.start();
  return container;
};

const execute = async (container, Cmd, options = {}) => {
  const exec = await container.exec({ Cmd, AttachStdout: true, AttachStderr: true, ...options });
  const [out, err] = await split(await exec.start({ hijack: true }));
  return { code: (await exec.inspect()).ExitCode, out, err };
};

/** A tar of one file. */
function archive(name, content) {
  const block = Buffer.alloc(512);
  block.write(name, 0);
  block.write('0000640\0', 100);
  block.write('0000000\0', 108);
  block.write('0000000\0', 116);
  block.write(content.length.toString(8).padStart(11, '0') + '\0', 124);
  block.write('00000000000\0', 136);
  block.write('        ', 148);
  block.write('0', 156);
  block.write('ustar\0' + '00', 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(sum.toString(8).padStart(6, '0') + '\0 ', 148);
  const data = Buffer.alloc(Math.ceil(content.length / 512) * 512);
  data.write(content);
  return Buffer.concat([block, data, Buffer.alloc(1024)]);
}

const tests = {
  async pingVersionInfo() {
    assert.strictEqual(String(await docker.ping()), 'OK');
    const version = await docker.version();
    assert.strictEqual(version.ApiVersion, '1.55');
    const info = await docker.info();
    assert.strictEqual(info.OSType, 'linux');
    assert(Array.isArray(info.Warnings) || info.Warnings === null || info.Warnings === undefined);
    for (const old of ['v1.24', 'v1.40', 'v1.44', 'v1.47', 'v1.51', 'v1.53']) {
      const past = new Docker({ version: old });
      assert.strictEqual((await past.version()).Os, 'linux');
      assert(Array.isArray(await past.listContainers({ all: true })));
      assert(Array.isArray(await past.listImages()));
      assert((await past.listVolumes()).Volumes === null || Array.isArray((await past.listVolumes()).Volumes));
      assert(Array.isArray(await past.listNetworks()));
    }
    assert.match(await refused(400, new Docker({ version: 'v1.99' }).version()), /too new/);
    assert.match(await refused(400, new Docker({ version: 'v1.12' }).version()), /too old/);
  },

  async pullAndImages() {
    await progress(await docker.pull(IMAGE));
    const name = `${REGISTRY}/busybox:latest`;
    const lines = await progress(await docker.pull(name));
    assert.match(lines.at(-1).status, /^Status: Downloaded newer image for/);
    await refused(404, docker.pull(`${REGISTRY}/missing:1`));
    const image = docker.getImage(name);
    const told = await image.inspect();
    assert.deepStrictEqual(told.Config.Cmd, ['sh']);
    await image.tag({ repo: 'node-tag', tag: '1' });
    assert.strictEqual((await docker.listImages({ filters: { reference: ['node-tag'] } }))[0].Id, told.Id);
    assert.strictEqual((await image.history())[0].Id, told.Id);
    const saved = await all(await docker.getImage('node-tag:1').get());
    assert.deepStrictEqual(await docker.getImage('node-tag:1').remove(), [{ Untagged: 'node-tag:1' }]);
    const loaded = await progress(await docker.loadImage(Readable.from([saved])));
    assert(loaded.some((line) => /Loaded image: node-tag:1/.test(line.stream)), JSON.stringify(loaded));
    await docker.getImage('node-tag:1').remove();
    assert.match(await refused(404, docker.getImage('node-tag:1').inspect()), /No such image/);
    const bad = await docker.loadImage(Readable.from([Buffer.from('not an archive')]));
    // 200, and what went wrong in the stream, as Docker has it.
    assert((await progress(bad)).some((line) => line.error && line.errorDetail.message), 'the stream tells no error');
  },

  async runWithStreams() {
    const out = new PassThrough();
    const err = new PassThrough();
    const texts = Promise.all([all(out), all(err)]);
    const [data, container] = await docker.run(IMAGE, ['sh', '-c', 'echo o; echo e >&2; exit 7'], [out, err], { Tty: false });
    [out, err].forEach((one) => one.end());
    assert.strictEqual(data.StatusCode, 7);
    assert.deepStrictEqual((await texts).map(String), ['o\n', 'e\n']);
    await container.remove();
    await assert.rejects(run({ name: 'node-bad', Cmd: ['nosuchprogram'] }), /executable file not found/);
    await docker.getContainer('node-bad').remove();
  },

  async createOptions() {
    const container = await run({
      name: 'node-options', Cmd: ['sleep', '60'], Hostname: 'inside', User: '1000', WorkingDir: '/tmp', Env: ['A=1'], Labels: { kind: 'node' },
      ExposedPorts: { '80/tcp': {} }, Volumes: { '/anonymous': {} }, StopSignal: 'SIGINT', StopTimeout: 3,
      HostConfig: {
        PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '0' }] }, Memory: 64 << 20, NanoCpus: 5e8, PidsLimit: 50, Binds: ['node-data:/vol'],
        RestartPolicy: { Name: 'unless-stopped' }, Init: true, ReadonlyRootfs: true, Tmpfs: { '/scratch': '' }, Ulimits: [{ Name: 'nofile', Soft: 100, Hard: 200 }],
        CapAdd: ['NET_ADMIN'], Dns: ['192.0.2.1'], ExtraHosts: ['other:192.0.2.2'], LogConfig: { Type: 'json-file', Config: { 'max-size': '1m' } },
      },
    });
    const told = await container.inspect();
    assert.strictEqual(told.State.Status, 'running');
    assert.strictEqual(told.HostConfig.Memory, 64 << 20);
    assert.strictEqual(told.Config.StopTimeout, 3);
    assert.deepStrictEqual(told.Mounts.map((mount) => mount.Destination).sort(), ['/anonymous', '/vol']);
    assert(Number(told.NetworkSettings.Ports['80/tcp'][0].HostPort) > 0);
    assert.strictEqual((await execute(container, ['sh', '-c', 'id -u; pwd; hostname; ulimit -n; echo $A'])).out, '1000\n/tmp\ninside\n100\n1\n');
    await refused(409, container.remove());
    await refused(409, docker.createContainer({ name: 'node-options', Image: IMAGE }));
    await refused(400, docker.createContainer({ Image: IMAGE, HostConfig: { Memory: 1 } }));
    await refused(404, docker.createContainer({ Image: 'nothing:here' }));
    await container.remove({ force: true, v: true });
    await refused(404, container.inspect());
    await docker.getVolume('node-data').remove();
  },

  async attachHijacked() {
    for (const hijack of [true, false]) {
      const container = await docker.createContainer({
        Image: IMAGE, Cmd: ['sh', '-c', 'cat; echo over >&2'], OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
      });
      const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack });
      await container.start();
      if (!hijack) {
        // Without an upgrade the request has no way in; the output comes all the same once the container ends.
        await container.kill();
        await split(stream);
        await container.remove();
        continue;
      }
      const big = 'x'.repeat(1 << 20);
      const texts = split(stream);
      stream.write(big);
      stream.end();
      const [out, err] = await texts;
      assert.strictEqual(out, big);
      assert.strictEqual(err, 'over\n');
      assert.strictEqual((await container.wait()).StatusCode, 0);
      await container.remove();
    }
  },

  async terminal() {
    const container = await docker.createContainer({ Image: IMAGE, Cmd: ['sh', '-c', 'read x; stty size; exit 6'], Tty: true, OpenStdin: true });
    const stream = await container.attach({ stream: true, stdin: true, stdout: true, hijack: true });
    await container.start();
    await container.resize({ h: 33, w: 77 });
    stream.write('\n');
    assert.match(String(await all(stream)), /33 77/);
    assert.strictEqual((await container.wait()).StatusCode, 6);
    await container.remove();
  },

  async execs() {
    const container = await run({ Cmd: ['sleep', '60'] });
    assert.deepStrictEqual(await execute(container, ['sh', '-c', 'echo o; echo e >&2; exit 3']), { code: 3, out: 'o\n', err: 'e\n' });
    assert.match((await execute(container, ['env'], { Env: ['X=y'] })).out, /X=y/);
    const exec = await container.exec({ Cmd: ['cat'], AttachStdin: true, AttachStdout: true });
    const stream = await exec.start({ hijack: true, stdin: true });
    const texts = split(stream);
    stream.write('through');
    stream.end();
    assert.deepStrictEqual(await texts, ['through', '']);
    const terminal = await container.exec({ Cmd: ['sh', '-c', 'read x; stty size'], Tty: true, AttachStdin: true, AttachStdout: true });
    const tty = await terminal.start({ hijack: true, stdin: true, Tty: true });
    await terminal.resize({ h: 31, w: 99 });
    tty.write('\n');
    assert.match(String(await all(tty)), /31 99/);
    const told = await until(async () => {
      const now = await terminal.inspect();
      return now.Running ? null : now;
    });
    assert.strictEqual(told.ProcessConfig.tty, true);
    await container.pause();
    await refused(409, container.exec({ Cmd: ['true'] }));
    await container.remove({ force: true });
    await refused(404, container.exec({ Cmd: ['true'] }));
  },

  async logs() {
    const container = await run({ Cmd: ['sh', '-c', 'echo one; echo two >&2; sleep 0.3; echo three'] });
    const [out, err] = await split(await container.logs({ follow: true, stdout: true, stderr: true }));
    assert.deepStrictEqual([out, err], ['one\nthree\n', 'two\n']);
    assert.match(String(await container.logs({ stdout: true, tail: 1, timestamps: true })), /Z three\n$/);
    await refused(400, container.logs({}));
    await container.remove();
  },

  async statsAndTop() {
    const container = await run({ Cmd: ['sleep', '60'] });
    const one = await container.stats({ stream: false });
    assert(one.pids_stats.current >= 1 && one.precpu_stats.system_cpu_usage > 0, JSON.stringify(one));
    const shot = await container.stats({ stream: false, 'one-shot': true });
    assert.strictEqual(shot.id, container.id);
    const stream = await container.stats({ stream: true });
    const text = await new Promise((resolve) => stream.once('data', resolve));
    stream.destroy();
    assert.strictEqual(JSON.parse(String(text).split('\n')[0]).id, container.id);
    assert(Array.isArray((await container.top({ ps_args: 'aux' })).Processes));
    await container.remove({ force: true });
  },

  async archives() {
    const container = await docker.createContainer({ Image: IMAGE, Cmd: ['cat', '/tmp/in'] });
    await container.putArchive(archive('in', 'put\n'), { path: '/tmp' });
    const info = await container.infoArchive({ path: '/tmp/in' });
    const stat = JSON.parse(Buffer.from(info.headers['x-docker-container-path-stat'], 'base64'));
    assert.strictEqual(stat.size, 4);
    assert((await all(await container.getArchive({ path: '/tmp/in' }))).includes('put\n'));
    await refused(404, container.getArchive({ path: '/nowhere' }));
    await container.start();
    await container.wait();
    assert.match(String(await container.logs({ stdout: true })), /put/);
    await container.remove();
  },

  async waits() {
    const container = await docker.createContainer({ Image: IMAGE, Cmd: ['sh', '-c', 'exit 4'], HostConfig: { AutoRemove: true } });
    // As `wait` asks; the head comes when the engine has taken it up, the body at the end.
    const taken = (condition) => new Promise((resolve, reject) => docker.modem.dial({
      path: `/containers/${container.id}/wait?`, options: { condition }, method: 'POST', isStream: true, statusCodes: { 200: true },
    }, (error, stream) => (error ? reject(error) : resolve(stream))));
    const waiting = [await taken('next-exit'), await taken('removed')];
    await container.start();
    const told = await Promise.all(waiting.map(async (stream) => JSON.parse(await all(stream)).StatusCode));
    assert.deepStrictEqual(told, [4, 4]);
    await refused(404, container.wait());
    const ended = await docker.createContainer({ Image: IMAGE, Cmd: ['sh', '-c', 'exit 5'] });
    await ended.start();
    assert.strictEqual((await ended.wait()).StatusCode, 5);
    await ended.remove();
  },

  async verbs() {
    const container = await run({ name: 'node-verbs', Cmd: ['sh', '-c', "trap 'exit 9' TERM; while :; do sleep 0.05; done"] });
    // 304: it runs already. dockerode makes an error of that.
    await assert.rejects(container.start(), { statusCode: 304 });
    await container.pause();
    assert.strictEqual((await container.inspect()).State.Status, 'paused');
    await container.unpause();
    await hearsTerm(container);
    await container.restart({ t: 5 });
    await hearsTerm(container);
    await container.rename({ name: 'node-renamed' });
    assert.strictEqual((await docker.getContainer('node-renamed').inspect()).Id, container.id);
    assert.deepStrictEqual((await container.update({ Memory: 100 << 20, MemorySwap: 200 << 20 })).Warnings ?? [], []);
    await refused(400, container.kill({ signal: 'NONSENSE' }));
    await container.kill({ signal: 'SIGTERM' });
    assert.strictEqual((await container.wait()).StatusCode, 9);
    await refused(409, container.kill());
    await container.remove();
  },

  async events() {
    const since = Math.floor(Date.now() / 1000);
    const filters = { container: ['node-watched'], type: ['container'] };
    const stream = await docker.getEvents({ filters });
    const container = await run({ name: 'node-watched', Cmd: ['true'] });
    await container.wait();
    await container.remove();
    const actions = [];
    let rest = '';
    for await (const part of stream) {
      const lines = (rest + part).split('\n');
      rest = lines.pop();
      actions.push(...lines.filter(Boolean).map((line) => JSON.parse(line).Action));
      if (actions.includes('destroy')) break;
    }
    assert.deepStrictEqual(actions, ['create', 'start', 'die', 'destroy']);
    const replayed = await all(await docker.getEvents({ filters, since, until: Math.floor(Date.now() / 1000) + 1 }));
    assert.strictEqual(String(replayed).trim().split('\n').length, 4);
  },

  async volumes() {
    const volume = await docker.createVolume({ Name: 'node-volume', Labels: { a: 'b' } });
    assert.strictEqual((await volume.inspect()).Labels.a, 'b');
    assert.strictEqual((await docker.listVolumes({ filters: { label: ['a=b'] } })).Volumes.length, 1);
    const holder = await docker.createContainer({ Image: IMAGE, HostConfig: { Binds: ['node-volume:/data'] } });
    await refused(409, volume.remove());
    await holder.remove();
    await refused(404, docker.createVolume({ Name: 'node-other', Driver: 'nonsense' }));
    assert.deepStrictEqual((await docker.pruneVolumes({ filters: { all: ['true'] } })).VolumesDeleted, ['node-volume']);
  },

  async commitDiffExport() {
    const container = await run({ Cmd: ['sh', '-c', 'echo changed >/new'] });
    await container.wait();
    assert.deepStrictEqual(await container.changes(), [{ Path: '/new', Kind: 1 }]);
    const committed = await container.commit({ repo: 'node-committed', tag: '1', comment: 'why' });
    assert.match(committed.Id, /^sha256:/);
    assert((await all(await container.export())).includes('changed\n'));
    await container.remove();
    await docker.getImage('node-committed:1').remove();
    const unchanged = await docker.createContainer({ Image: IMAGE });
    // The body is `null`, which dockerode hands on unparsed.
    assert.strictEqual(String(await unchanged.changes()).trim(), 'null');
    await unchanged.remove();
  },

  async health() {
    const container = await run({ Cmd: ['sleep', '60'], Healthcheck: { Test: ['CMD', 'test', '-e', '/tmp/well'], Interval: 1e8, Timeout: 5e9, Retries: 1 } });
    const status = async () => (await container.inspect()).State.Health.Status;
    await until(async () => (await status()) === 'unhealthy');
    await execute(container, ['touch', '/tmp/well']);
    await until(async () => (await status()) === 'healthy');
    await container.remove({ force: true });
  },

  async listsAndPrune() {
    const one = await docker.createContainer({ name: 'node-one', Image: IMAGE, Labels: { n: '1' } });
    const two = await run({ name: 'node-two', Cmd: ['sleep', '60'] });
    const names = async (filters) => (await docker.listContainers({ all: true, filters })).map((found) => found.Names[0]).sort();
    assert.deepStrictEqual(await names({}), ['/node-one', '/node-two']);
    assert.deepStrictEqual(await names({ label: ['n=1'] }), ['/node-one']);
    assert.deepStrictEqual(await names(JSON.stringify({ status: { running: true } })), ['/node-two']);
    await refused(400, docker.listContainers({ filters: { nonsense: ['1'] } }));
    assert.deepStrictEqual((await docker.pruneContainers()).ContainersDeleted, [one.id]);
    await two.remove({ force: true });
    assert.deepStrictEqual((await docker.pruneContainers()).ContainersDeleted ?? [], []);
    assert.strictEqual((await docker.getNetwork('bridge').inspect()).Name, 'bridge');
    assert.strictEqual((await docker.df()).ContainerUsage.TotalCount ?? 0, 0);
  },
};

(async () => {
  for (const [name, test] of Object.entries(tests)) {
    let outcome = 'ok';
    try {
      await test();
    } catch (error) {
      console.error(`${name}:`, error);
      outcome = 'FAILED';
      for (const left of await docker.listContainers({ all: true })) {
        await docker.getContainer(left.Id).remove({ force: true, v: true }).catch(() => {});
      }
    }
    console.log(`test ${name} ... ${outcome}`);
  }
  process.exit();
})();
