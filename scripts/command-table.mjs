// Writes src/binlog/command-table.data.ts from the COMMAND reply of a redis-server that it starts itself.
// Usage: node scripts/command-table.mjs [path of redis-server]

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { tsImport } from 'tsx/esm/api';

const OUTPUT = fileURLToPath(new URL('../src/binlog/command-table.data.ts', import.meta.url));
const { encodeSpec, specsFromReply } = await tsImport('../src/binlog/command-spec.ts', import.meta.url);

const folder = await mkdtemp(join(tmpdir(), 'lanegate-command-table-'));
const socket = join(folder, 'redis.sock');
const server = spawn(
  process.argv[2] ?? 'redis-server',
  ['--port', '0', '--unixsocket', socket, '--save', '', '--dir', folder],
  { stdio: ['ignore', 'pipe', 'inherit'] },
);
try {
  await ready(server);
  const redis = new Redis({ path: socket });
  const reply = await redis.callBuffer('COMMAND');
  const version = /redis_version:(\S+)/.exec(await redis.info('server'))?.[1];
  redis.disconnect();
  const lines = specsFromReply(reply).map(encodeSpec).sort();
  await writeFile(OUTPUT, source(version, lines));
  process.stdout.write(`${lines.length} commands of Redis ${version} -> ${OUTPUT}\n`);
} finally {
  if (server.exitCode === null && server.kill()) await once(server, 'exit');
  await rm(folder, { recursive: true, force: true });
}

function ready(child) {
  return new Promise((resolve, reject) => {
    let log = '';
    child.stdout.on('data', (chunk) => {
      log += chunk;
      if (log.includes('eady to accept connections')) resolve();
    });
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`redis-server did not start:\n${log}`)));
  });
}

function source(version, lines) {
  return `// Made by scripts/command-table.mjs from Redis ${version}; do not edit. One line a command, see command-spec.ts.

export const SHIPPED_SPECS = \`
${lines.join('\n')}
\`;
`;
}
