import { defineConfig } from 'vitest/config';

const PURE = ['test/unit/**/*.test.ts', 'test/fuzz/**/*.test.ts'];

export default defineConfig({
  test: {
    globalSetup: 'test/support/global-setup.ts',
    pool: 'forks',
    // Most of the time is spent waiting for real servers and processes.
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    projects: [
      // Pure: they may share a process, which saves its start and imports for each file.
      { extends: true, test: { name: 'pure', include: PURE, isolate: false } },
      {
        extends: true,
        test: { name: 'real', include: ['test/**/*.test.ts'], exclude: PURE, isolate: false },
      },
    ],
    coverage: { include: ['src/**', 'queues/**', 'processors/**'], reporter: ['text-summary', 'html'] },
  },
});
