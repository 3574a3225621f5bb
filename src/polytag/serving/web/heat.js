// Convert the model's greyscale heat map into colours that are drawn over the photo.

const SIDE = 800;  // longer side of the drawn heat map, in pixels

// The colour map "inferno" (van der Walt and Smith 2015) is perceptually uniform, even when converted to greyscale.
const INFERNO = [[0, 0, 4], [27, 12, 65], [74, 12, 107], [120, 28, 109], [165, 44, 96], [207, 68, 70], [237, 105, 37],
  [251, 155, 6], [247, 209, 61], [252, 255, 164]];
const COLOURS = Uint32Array.from({ length: 256 }, (_, heat) => {
  const place = (heat / 255) * (INFERNO.length - 1), below = Math.min(Math.floor(place), INFERNO.length - 2);
  const [red, green, blue] = INFERNO[below].map((from, i) => Math.round(from + (place - below) * (INFERNO[below + 1][i] - from)));
  return (((105 + heat / 4) << 24) | (blue << 16) | (green << 8) | red) >>> 0;  // hotter pixels are more opaque
});

// The model receives the photo resized to a square, so the heat map is stretched to the photo's aspect ratio.
export function paint(canvas, heat, image) {
  const width = image.naturalWidth || heat.width, height = image.naturalHeight || heat.height;
  const scale = SIDE / Math.max(width, height);
  canvas.width = Math.max(1, width * scale);
  canvas.height = Math.max(1, height * scale);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.imageSmoothingQuality = "high";
  pen.drawImage(heat, 0, 0, canvas.width, canvas.height);
  const picture = pen.getImageData(0, 0, canvas.width, canvas.height), pixels = new Uint32Array(picture.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = COLOURS[pixels[i] & 255];
  pen.putImageData(picture, 0, 0);
}
