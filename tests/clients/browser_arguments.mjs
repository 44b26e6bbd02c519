/** Chromium for tests; the key behind `spki` is taken as if a public authority vouched for it. */
export const browserArguments = (spki) => [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--disable-dev-shm-usage',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  `--ignore-certificate-errors-spki-list=${spki}`,
];
