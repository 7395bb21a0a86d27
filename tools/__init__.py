"""What the repository needs beside the package: pages made of the code, vendored assets."""
