// `passed failed` of vitest's JSON report; a suite that did not load counts as a failed test, no report as one.
import { readFileSync } from 'node:fs';

let counts = { passed: 0, failed: 1 };
try {
  const report = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8'));
  const broken = report.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  );
  counts = { passed: report.numPassedTests, failed: report.numFailedTests + broken.length };
} catch (error) {
  process.stderr.write(`no test report: ${error.message}\n`);
}
process.stdout.write(`${counts.passed} ${counts.failed}\n`);
