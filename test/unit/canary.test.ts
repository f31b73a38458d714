import { expect, test } from 'vitest';
import { keepSecret, LOAD_MARK, refuseLeaks } from '../support/canary.ts';

test('output with a password, from wherever the process had it, or with a value of the load fails its test', () => {
  keepSecret('of-a-server-1');
  const args = ['check', '--target', 'redis://me:of-a-url-2@127.0.0.1:1'];
  const env = { LANEGATE_QUEUE_PASSWORD: 'of-a-variable-3', LANEGATE_QUEUE: 'redis://127.0.0.1:1' };
  expect(() => refuseLeaks('nothing of it', { args, env })).not.toThrow();
  for (const secret of ['of-a-server-1', 'of-a-url-2', 'of-a-variable-3', `${LOAD_MARK}v7`]) {
    expect(() => refuseLeaks(`so ${secret} it is`, { args, env }), secret).toThrow(/check printed a secret/);
  }
  expect(() => refuseLeaks(`${LOAD_MARK}v7`, { args: ['errors', '--values'] })).not.toThrow();
});
