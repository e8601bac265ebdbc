/**
 * PNG from pixels, byte for byte. A canvas's own `toBlob` is not used for drawings: browsers that protect against
 * fingerprinting change its pixels a little, and a label picture with changed pixels is none.
 */

const TABLE = new Uint32Array(256).map((_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

function crc(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = TABLE[(c ^ byte) & 255] ^ (c >>> 8);
  return ~c >>> 0;
}

function chunk(name, body) {
  const bytes = new Uint8Array(12 + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, body.length);
  bytes.set([...name].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(body, 8);
  view.setUint32(8 + body.length, crc(bytes.subarray(4, 8 + body.length)));
  return bytes;
}

/** Rows of RGB without their alpha, each as the difference to the row above (PNG filter 2), which drawings like. */
function rows({ data, width, height }) {
  const stride = 3 * width + 1;
  const out = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) {
    out[y * stride] = 2;
    for (let x = 0; x < width; x++) {
      const from = 4 * (y * width + x);
      const to = y * stride + 1 + 3 * x;
      for (let c = 0; c < 3; c++) out[to + c] = data[from + c] - (y ? data[from - 4 * width + c] : 0);
    }
  }
  return out;
}

function byCanvas(pixels) {
  const { width, height } = pixels;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d", { alpha: false }).putImageData(pixels, 0, 0);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

/** RGBA pixels {data, width, height} -> a PNG Blob of their RGB. The pixels are read before the first wait. */
export async function png(pixels) {
  const raw = rows(pixels);
  if (!window.CompressionStream) return byCanvas(pixels); // Safari before 16.4, Firefox before 113
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, pixels.width);
  view.setUint32(4, pixels.height);
  header.set([8, 2, 0, 0, 0], 8); // 8 bits, RGB
  const squeezed = new Blob([raw]).stream().pipeThrough(new CompressionStream("deflate"));
  const body = new Uint8Array(await new Response(squeezed).arrayBuffer());
  const signature = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
  const parts = [signature, chunk("IHDR", header), chunk("IDAT", body), chunk("IEND", new Uint8Array(0))];
  return new Blob(parts, { type: "image/png" });
}
