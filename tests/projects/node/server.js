const express = require('express');

const app = express();
app.get('/', (request, response) => response.json({ node: process.env.NODE_ENV, uid: process.getuid() }));
const server = app.listen(3000);
process.on('SIGTERM', () => server.close());
