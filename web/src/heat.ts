/** The heat map's colours and opacity, as callus/results/overlay.py draws them (tests/service/test_page.py holds them together). */

/** 256 colours of inferno from 0.2 to 1, three bytes each: even steps of lightness, safe for the colour-blind. */
export const INFERNO =
  "QgpoRApoRApoRQppRwtqSQtqSgxrSgxrTAxrTQ1sTw1sUQ5sUQ5sUg5tVA9tVQ9tVxBuVxBuWRBuWhFuXBJuXRJuXRJuXxNuYRNuYhRuZBVu" +
  "ZBVuZRVuZxZuaRZuahduahdubBhubRhubxlucRlucRluchpudBpudRtudxxtdxxteBxteh1tfB1tfR5tfR5tfx5sgB9sgiBshCBrhCBrhSFr" +
  "hyFriCJqiiJqiiJqjCNpjSNpjyRpkCVokCVokiVokyZnlSZnlydmmCdmmCdmmihlmylknSlknypjnypjoCpjoitioyxhpSxgpSxgpi1gqC5f" +
  "qS5eqy9eqy9erTBdrjBcsDFbsTJasTJaszJatDNZtjRYtzVXtzVXuTVWujZVvDdUvThTvThTvzlSwDpRwTpQwztPwztPxDxOxj1Nxz5MyD9L" +
  "yD9LykBKy0FJzEJIzkNHzkNHz0RG0EVF0kZE00dD00dD1EhC1UpB10s/2Ew+2Ew+2U092k4821A73VE63lI43lI431M34FU24VY14lc04lc0" +
  "41kz5Fox5Vww5l0v5l0v514u6GAt6WEr6mMq6mMq62Qp62Yo7Gcm7Wkl7Wkl7mok72wj724h8G8g8G8g8XEf8XMd8nQc83Yb83Yb83gZ9HkY" +
  "9XsX9X0V9X0V9n4U9oAT94IS94QQ94QQ+IUP+IcO+IkM+YsL+YsL+YwK+Y4J+pAI+pIH+pIH+pQH+5YG+5cG+5kG+5kG+5sG+50H/J8H/KEI" +
  "/KEI/KMJ/KUK/KYM/KgN/KoP/KoP/KwR/K4S/LAU/LIW/LIW/LQY+7Ya+7gd+7of+7of+7wh+74j+sAm+sIo+sIo+sQq+sYt+ccv+cky+cky" +
  "+cs1+M03+M8699E999E999NA9tVD9tdG9dlJ9dlJ9dtM9N1P9N9T9OFW9OFW8+Na8+Vd8uZh8uhl8uhl8upp8ext8e1x8e918e918fF58vJ9" +
  "8vSC8/WG8/WG8/aK9PiO9fmS9vqW9vqW+Pua+fyd+v2h/P+k/P+k";

const CLEAR_BELOW = 0.15;

/** A picture to lay over the radiograph, of a grey heat map; its opacity is 1 at the map's 1, to be turned down. */
export async function colouredHeat(grey: Blob): Promise<string> {
  const bitmap = await createImageBitmap(grey);
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const picture = context.getImageData(0, 0, canvas.width, canvas.height);
  const table = Uint8Array.from(atob(INFERNO), (letter) => letter.charCodeAt(0));
  const pixels = picture.data;
  for (let at = 0; at < pixels.length; at += 4) {
    const value = pixels[at]!;
    const share = Math.min(1, Math.max(0, (value / 255 - CLEAR_BELOW) / (1 - CLEAR_BELOW)));
    pixels[at] = table[value * 3]!;
    pixels[at + 1] = table[value * 3 + 1]!;
    pixels[at + 2] = table[value * 3 + 2]!;
    pixels[at + 3] = Math.round(255 * share * (2 - share));
  }
  context.putImageData(picture, 0, 0);
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, "image/png"));
  return blob ? URL.createObjectURL(blob) : "";
}
