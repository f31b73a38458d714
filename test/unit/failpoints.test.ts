import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { armFailpoints, failpoint } from '../../src/runtime/failpoints.ts';

afterEach(() => {
  armFailpoints({});
});

const MODULE = new URL('../../src/runtime/failpoints.ts', import.meta.url).href;
const SCRIPT = `
  const { armFailpoints, failpoint } = await import(${JSON.stringify(MODULE)});
  armFailpoints(process.env);
  for (let hit = 1; hit <= 4; hit++) {
    failpoint('other');
    failpoint('here');
    process.stdout.write('survived ' + hit + '\\n');
  }
`;

describe('a failpoint', () => {
  test('that is not armed does nothing', () => {
    expect(failpoint('here')).toBeUndefined();
  });

  test('that is armed under another name does nothing', () => {
    expect(armFailpoints({ LANEGATE_FAILPOINT: 'there=kill; elsewhere=stop@2' })).toEqual([
      'there',
      'elsewhere',
    ]);
    expect(failpoint('here')).toBeUndefined();
  });

  test('hangs at the hit it is armed for, and only then', async () => {
    armFailpoints({ LANEGATE_FAILPOINT: 'here=hang@2' });
    expect(failpoint('here')).toBeUndefined();
    const hanging = failpoint('here');
    await expect(Promise.race([hanging, Promise.resolve('still hanging')])).resolves.toBe('still hanging');
    expect(failpoint('here')).toBeUndefined();
  });

  test('that cannot be read is refused', () => {
    expect(() => armFailpoints({ LANEGATE_FAILPOINT: 'here=explode' })).toThrow('"here=explode"');
    expect(() => armFailpoints({ LANEGATE_FAILPOINT: 'here=kill@0' })).toThrow();
  });

  test('kills its process by SIGKILL at the third hit and leaves its name in the file', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lanegate-failpoint-'));
    const file = join(folder, 'hits');
    try {
      const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', SCRIPT], {
        env: { ...process.env, LANEGATE_FAILPOINT: 'here=kill@3', LANEGATE_FAILPOINT_FILE: file },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let output = '';
      child.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
      });
      const [code, signal] = await once(child, 'close');
      expect([code, signal]).toEqual([null, 'SIGKILL']);
      expect(output).toBe('survived 1\nsurvived 2\n');
      expect(readFileSync(file, 'utf8')).toBe('here\n');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
