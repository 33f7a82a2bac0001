// Command contentstore fills the data directory of a containerd that does not run yet: it
// imports an OCI layout archive into the content store and the metadata database, pinned
// against garbage collection, so that a node boots with its images in place.
//
// usage: contentstore ARCHIVE DIRECTORY
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"go.etcd.io/bbolt"
)

const (
	kubernetesNamespace = "k8s.io"
	// Directory names of containerd's plugins, below its root directory.
	contentDirectory  = "io.containerd.content.v1.content"
	metadataDirectory = "io.containerd.metadata.v1.bolt"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: contentstore ARCHIVE DIRECTORY")
		os.Exit(64)
	}
	if err := fill(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "contentstore:", err)
		os.Exit(1)
	}
}

func fill(source, root string) error {
	ctx := namespaces.WithNamespace(context.Background(), kubernetesNamespace)
	layout, err := os.Open(source)
	if err != nil {
		return err
	}
	defer layout.Close()
	blobs, err := local.NewStore(filepath.Join(root, contentDirectory))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(root, metadataDirectory), 0o711); err != nil {
		return err
	}
	options := *bbolt.DefaultOptions
	options.NoFreelistSync = true // as containerd itself opens it
	file, err := bbolt.Open(filepath.Join(root, metadataDirectory, "meta.db"), 0o644, &options)
	if err != nil {
		return err
	}
	defer file.Close()
	db := metadata.NewDB(file, blobs, nil)
	if err := db.Init(ctx); err != nil {
		return err
	}
	offline, err := client.New("", client.WithServices(
		client.WithContentStore(db.ContentStore()),
		client.WithImageStore(metadata.NewImageStore(db)),
		client.WithLeasesService(metadata.NewLeaseManager(db)),
	))
	if err != nil {
		return err
	}
	imported, err := offline.Import(ctx, layout,
		client.WithAllPlatforms(true),
		client.WithDigestRef(archive.DigestTranslator("import")),
		client.WithImageLabels(map[string]string{"io.cri-containerd.pinned": "pinned"}),
	)
	if err != nil {
		return err
	}
	for _, image := range imported {
		fmt.Println(image.Name)
	}
	return nil
}
