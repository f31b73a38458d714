import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../../src/config-load.ts';
import { ConfigurationError } from '../../../src/runtime/errors.ts';

const RUN = ['--source', 'aof:///dir', '--target', 'redis://127.0.0.1:6380'];
const untilTime = (text: string) => loadConfig('run', [...RUN, '--until-time', text], {}, '/').untilTime;

describe('--until-time', () => {
  test.each([
    ['2026-01-31T12:00:00Z', Date.UTC(2026, 0, 31, 12)],
    ['2026-01-31 12:00', Date.UTC(2026, 0, 31, 12)],
    ['2026-01-31', Date.UTC(2026, 0, 31)],
    ['2026-01-31T12:00:00.250+02:00', Date.UTC(2026, 0, 31, 10, 0, 0, 250)],
    ['1700000000', 1_700_000_000_000],
    ['1700000000.5', 1_700_000_000_500],
    ['1700000000123', 1_700_000_000_123],
  ])('%s is taken', (text, ms) => {
    expect(untilTime(text)).toBe(ms);
  });

  test.each(['yesterday', '5', '2026-13-01', '2026-02-31x', '12:00', '-1700000000'])(
    '%s is refused',
    (text) => {
      expect(() => untilTime(`${text}`)).toThrow(ConfigurationError);
    },
  );
});
