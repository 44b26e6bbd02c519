// One run of a client: a hard time limit, named steps, and one JSON line of findings.

const SECONDS_MAX = 45;

/**
 * Runs `main`, which returns what it found, and prints it as one JSON line. Exits 0 when `main`
 * returned, 1 when it threw or took too long; then the line has `error` and the `step` it was at.
 */
export async function scenario(main) {
  let at = 'start';
  const end = (code, line) => {
    process.stdout.write(`${JSON.stringify(line)}\n`, () => process.exit(code));
  };
  setTimeout(() => end(1, { error: `no end after ${SECONDS_MAX} s`, step: at }), SECONDS_MAX * 1000);
  try {
    end(0, await main((step) => { at = step; }));
  } catch (error) {
    end(1, { error: String(error?.stack ?? error), step: at });
  }
}

/** Tells the driver, as one JSON line, what a backend saw. */
export function event(name, fields = {}) {
  process.stdout.write(`${JSON.stringify({ event: name, ...fields })}\n`);
}

/** Ends a backend with the driver that started it: its standard input closes then. */
export function endWithDriver() {
  process.stdin.resume();
  process.stdin.on('end', () => process.exit(0));
}
