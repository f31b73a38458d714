import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

const ROOT = new URL('../../', import.meta.url);

function lanegate(...argv: string[]) {
  const env = { PATH: process.env.PATH, LANEGATE_TARGET_PASSWORD: 'tiger' };
  return spawnSync(process.execPath, ['bin/lanegate.js', ...argv], { cwd: ROOT, env, encoding: 'utf8' });
}

describe('the command line', () => {
  test('help goes to standard output and is no error', () => {
    for (const argv of [['--help'], ['run', '--help'], ['run', '--nonsense', '-h'], ['--help', '--all']]) {
      const { status, stdout } = lanegate(...argv);
      expect([status, stdout.includes('Usage: lanegate')]).toEqual([0, true]);
    }
  });

  test('the version is the one of package.json', () => {
    const { version } = JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8'));
    expect(lanegate('--version').stdout).toBe(`${version}\n`);
  });

  test('no command and an unknown one end with 2 and the list of commands', () => {
    expect(lanegate()).toMatchObject({ status: 2, stdout: '' });
    const { status, stderr } = lanegate('stauts');
    expect([status, stderr.includes('did you mean status?'), stderr.includes('  relane ')]).toEqual([
      2,
      true,
      true,
    ]);
  });

  test('wrong options end with 2, all of them listed, and the way to help', () => {
    const { status, stderr } = lanegate(
      'run',
      '--lanes',
      '0',
      '--target',
      'redis://u:tiger@h/x',
      '--nmae',
      'x',
    );
    expect(status).toBe(2);
    for (const part of [
      '--lanes: must',
      '--target: the path',
      '--nmae: unknown',
      '--source is missing',
      'run --help',
    ]) {
      expect(stderr).toContain(part);
    }
    expect(stderr).not.toContain('tiger');
  });
});
